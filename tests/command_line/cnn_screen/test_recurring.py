"""Spots that recur in a run: reported, masked, and left out where that is asked for."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from libtbx.utils import Sorry

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.util.interrupts import Interrupted
from dials_cnn_screen.util.json_lines import read_json_lines

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
EXCLUDE = "recurring=exclude"
HOT = [[20, 60], [75, 30]]
GRAINS = [(16, 24), (24, 140), (140, 22), (132, 132), (100, 76), (60, 18), (50, 82)]
CENTRE = {"BEAM_CENTER_X": 80 * 0.0886, "BEAM_CENTER_Y": 80 * 0.0886}


def add_spot(frames: np.ndarray, slow: int, fast: int) -> None:
    """Add a spot, a Gaussian with a standard deviation of a pixel, to all frames."""
    square = (np.indices((5, 5)) - 2) ** 2
    photons = 700 * np.exp(-square.sum(axis=0) / 2)
    window = np.s_[:, slow - 2 : slow + 3, fast - 2 : fast + 3]
    size = (len(frames), 5, 5)
    frames[window] += np.random.default_rng(1).poisson(photons, size)


def make_frames(n: int, hit_rate: float = 0.3) -> np.ndarray:
    """Frames of 160 x 160 pixels: two hot pixels, and 12 spots somewhere on some."""
    rng = np.random.default_rng(0)
    frames = rng.poisson(20, (n, 160, 160)).astype(np.int32)
    for frame in frames[: round(hit_rate * n)]:
        corners = rng.permutation(36)[:12]
        slow, fast = 10 + 24 * np.array(divmod(corners, 6)) + rng.integers(0, 18, 12)
        for spot in zip(slow, fast, strict=True):
            add_spot(frame[None], *spot)
    rng.shuffle(frames)
    for slow, fast in HOT:
        frames[:, slow, fast] = 900
    return frames


@pytest.fixture
def spots(spot_model) -> str:
    return f"model={spot_model}"


@pytest.fixture
def hot(write_cxidb76) -> str:
    return str(write_cxidb76("hot.h5", make_frames(110), kind="Rayonix", **CENTRE))


def log() -> str:
    return " ".join(Path("dials.cnn_screen.log").read_text().split())


def masked(path: str) -> np.ndarray:
    (mask,) = pickle.loads(Path(path).read_bytes())
    return ~flumpy.to_numpy(mask)


def n_on_hot(column) -> int:
    """Images with a spot on a hot pixel."""
    return sum(any(spot in HOT for spot in spots) for spots in column("spots"))


def test_it_is_reported(hot, spots, results, column):
    run([hot, spots, ONE])
    (entry,) = results()["recurring"]
    assert [[p["slow"], p["fast"]] for p in entry.pop("most_frequent")] == HOT
    assert entry == {
        "images": 110,
        "places": 2,
        "places_in_doubt": 0,
        "places_masked": 2,
        "pixels_masked": 98,
        "images_with_them": 110,
        "mask": "recurring.mask",
        "left_out": False,
    }
    assert n_on_hot(column) == 110
    assert masked("recurring.mask").sum() == 98
    assert masked("recurring.mask")[17:24, 57:64].all()
    assert "recur at 2 pixels of the detector" in log()
    assert "slow 20 fast 60 on 110" in log()
    assert "resume=True recurring=exclude" in log()
    assert "recur at 2 pixels" in Path("cnn_screen.html").read_text()


def test_it_is_left_out(hot, spots, results, column, read):
    run([hot, spots, ONE, EXCLUDE])
    assert n_on_hot(column) == 0
    assert results()["recurring"][0]["left_out"] is True
    assert sorted(column("n_spots"))[:77] == [0] * 77
    assert sum(column("n_spots")) > 33 * 9
    assert "110 of 110 images have them. These were classified again" in log()
    # Whoever reads the hits reads them without these pixels.
    lookup = read("hits.expt")[0].imageset.external_lookup.mask
    assert lookup.filename == str(Path("recurring.mask").resolve())
    # The record is of the first pass.
    lines = read_json_lines("cnn_screen.jsonl").lines[1:]
    assert sorted(line["index"] for line in lines) == list(range(110))
    assert all(any(s in HOT for s in line["spots"]) for line in lines)


def test_grains_make_no_hits(write_cxidb76, results):
    """Grains that stay where they are, which the default model takes for spots."""
    frames = make_frames(110)
    for grain in GRAINS:
        add_spot(frames, *grain)
    write_cxidb76("grains.h5", frames, kind="Rayonix", **CENTRE)
    run(["grains.h5", ONE])
    before = results()["summary"]
    assert before["kept"] > 105
    run(["grains.h5", ONE, EXCLUDE, "resume=True"])
    after = results()["summary"]
    assert 30 <= after["kept"] <= 36


def test_resume_and_processes_give_the_same(hot, spots, results, column):
    run([hot, spots, ONE, EXCLUDE])
    expected, hits = results(), Path("hits.expt").read_bytes()
    run([hot, spots, ONE, "resume=True"])
    assert n_on_hot(column) == 110
    run([hot, spots, ONE, EXCLUDE, "resume=True"])
    assert results() == expected
    run([hot, spots, "mp.nproc=2", EXCLUDE])
    assert results() == expected
    assert Path("hits.expt").read_bytes() == hits


def test_ranks_give_the_same(hot, spots, mpirun, results):
    run([hot, spots, ONE, EXCLUDE])
    expected = results()
    code = "from dials_cnn_screen.command_line.cnn_screen import run; run()"
    ranks = mpirun(2, code, hot, spots, "mp.method=mpi", EXCLUDE)
    assert ranks.returncode == 0, ranks.stderr
    found = results()
    # One by one: a difference is then shown whole.
    for image, other in zip(found["images"], expected["images"], strict=True):
        assert image == other
    assert found == expected


def test_only_images_that_have_it_are_classified_again(
    write_cxidb76, spots, monkeypatch, results
):
    frames = make_frames(120)
    frames[::3, 20, 60] = frames[::3, 75, 30] = 20
    write_cxidb76("hot.h5", frames, kind="Rayonix", **CENTRE)
    from dials_cnn_screen.screening import run as screening

    seen, screen_frame = [], screening.screen_frame

    def counted(screener, still):
        seen.append(still.name.number)
        return screen_frame(screener, still)

    monkeypatch.setattr(screening, "screen_frame", counted)
    run(["hot.h5", spots, ONE, EXCLUDE])
    assert seen[:120] == list(range(1, 121))
    # Also that of a crystal's spot which is as near as what is left out.
    with_it = [
        line["frame"]
        for line in read_json_lines("cnn_screen.jsonl").lines[1:]
        if any(np.abs(np.subtract(a, b)).max() <= 3 for a in line["spots"] for b in HOT)
    ]
    assert set(with_it) >= {n for n in range(1, 121) if n % 3 != 1}
    assert len(with_it) < 90
    assert seen[120:] == with_it


def test_a_still_sample_is_not_left_out(write_cxidb76, spots, results, column):
    """The same crystal on all images, as hot pixels are: said, and left as it is."""
    write_cxidb76("still.h5", make_frames(100, 0), kind="Rayonix", **CENTRE)
    run(["still.h5", spots, ONE, EXCLUDE])
    (entry,) = results()["recurring"]
    assert (entry["places_in_doubt"], entry["places_masked"]) == (2, 0)
    assert entry["mask"] is None
    assert n_on_hot(column) == 100
    assert not Path("recurring.mask").exists()
    assert "may be hot pixels, or of a sample that stood still" in log()
    assert "They are not left out" in log()
    run(["still.h5", spots, ONE, "recurring=exclude_all"])
    assert n_on_hot(column) == 0
    assert "They are in the mask too" in log()


@pytest.mark.parametrize("n", [30, 99])
def test_few_images_tell_nothing(write_cxidb76, spots, results, n):
    write_cxidb76("few.h5", make_frames(n), kind="Rayonix", **CENTRE)
    run(["few.h5", spots, ONE, EXCLUDE])
    assert results()["recurring"][0]["places"] == 0
    assert "recur at" not in log()


def test_not_looked_for(hot, spots, results):
    run([hot, spots, ONE, "recurring=None"])
    assert results()["recurring"] == []
    assert not Path("recurring.mask").exists()


def test_mask_has_that_of_the_user(hot, spots, imported, column, results):
    imported(hot)
    # The first of the hot pixels is masked by the user.
    mask = np.ones((160, 160), bool)
    mask[15:25, 55:65] = False
    Path("given.mask").write_bytes(pickle.dumps((flumpy.from_numpy(mask),)))
    run(["imported.expt", spots, ONE, "mask=given.mask"])
    assert results()["recurring"][0]["places"] == 1
    both = masked("recurring.mask")
    assert both[15:25, 55:65].all()
    assert both[72:79, 27:34].all()
    assert both.sum() == 100 + 49
    with pytest.raises(Sorry, match=r"recurring.mask' is both read and written"):
        run(["imported.expt", spots, ONE, "mask=recurring.mask"])
    given = ["mask=recurring.mask", "output.recurring_mask=more.mask"]
    run(["imported.expt", spots, ONE, *given])
    assert n_on_hot(column) == 0


def test_mask_is_one_of_dials(hot, spots, imported):
    from dials.array_family import flex
    from dials.command_line import find_spots

    imported(hot)
    run(["imported.expt", spots, ONE, "select.max_images=100"])
    finder = ["hits.expt", "min_spot_size=1", ONE, "output.shoeboxes=False"]

    def found() -> int:
        find_spots.run(finder)
        x, y, _ = flex.reflection_table.from_file("strong.refl")[
            "xyzobs.px.value"
        ].parts()
        centres = zip(flumpy.to_numpy(y) // 1, flumpy.to_numpy(x) // 1, strict=True)
        return sum(list(centre) in HOT for centre in centres)

    assert found() >= 100
    finder.append("spotfinder.lookup.mask=recurring.mask")
    assert found() == 0


def test_two_detectors(hot, write_cxidb76, spots, results):
    larger = np.pad(make_frames(110), ((0, 0), (0, 10), (0, 0)), mode="wrap")
    write_cxidb76("larger.h5", larger, kind="Rayonix", **CENTRE)
    run([hot, "larger.h5", spots, ONE, EXCLUDE])
    one, two = results()["recurring"]
    assert (one["mask"], two["mask"]) == ("recurring.mask", "recurring_2.mask")
    assert masked("recurring.mask").shape == (160, 160)
    assert masked("recurring_2.mask").shape == (170, 160)
    assert "Detector 1: Spots" in log()
    assert "Detector 2: Spots" in log()


def test_refused(hot, spots, model):
    with pytest.raises(Sorry, match="model level looks for no spots"):
        run([hot, model, ONE, EXCLUDE])
    with pytest.raises(Sorry, match="needs a file for the mask"):
        run([hot, spots, ONE, EXCLUDE, "output.recurring_mask=None"])


def test_interrupted_second_pass(hot, spots, results, column, monkeypatch, capsys):
    from dials_cnn_screen.screening import second_pass

    stream = second_pass.stream_results

    def interrupted(*args, **kwargs):
        for n, result in enumerate(stream(*args, **kwargs)):
            if n == 5:
                raise Interrupted(signal.SIGINT)
            yield result

    monkeypatch.setattr(second_pass, "stream_results", interrupted)
    with pytest.raises(SystemExit):
        run([hot, spots, ONE, EXCLUDE])
    assert "spots that recur are not left out; resume=True" in capsys.readouterr().err
    assert n_on_hot(column) == 110
    assert results()["recurring"][0]["left_out"] is False
    monkeypatch.setattr(second_pass, "stream_results", stream)
    run([hot, spots, ONE, EXCLUDE, "resume=True"])
    assert n_on_hot(column) == 0
