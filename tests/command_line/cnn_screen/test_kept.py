"""What other programs take of the kept images: spots, pixels and lists."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.utils import Sorry

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
PLACES = [(20, 30), (40, 60), (61, 13)]


@pytest.fixture
def spotty(write_cxidb76) -> str:
    """Four frames of 80 x 80 pixels: 3 spots, all of one value, 2 spots, 3 spots."""
    images = np.random.default_rng(0).poisson(50, (4, 80, 80)).astype(np.int32)
    for i, n in ((0, 3), (2, 2), (3, 3)):
        for slow, fast in PLACES[:n]:
            images[i, slow - 1 : slow + 2, fast - 1 : fast + 2] += 80
            images[i, slow, fast] += 800
    images[1] = 7
    centre = {"BEAM_CENTER_X": 40 * 0.0886, "BEAM_CENTER_Y": 40 * 0.0886}
    return str(write_cxidb76("run1.h5", images, kind="Rayonix", **centre))


@pytest.fixture
def spots(spot_model) -> str:
    return f"model={spot_model}"


@pytest.mark.parametrize("nproc", [1, 2])
def test_spots_go_with_the_hits(spotty, spots, imported, results, nproc):
    imported(spotty)
    run(["imported.expt", spots, f"mp.nproc={nproc}", "output.strong=strong.refl"])
    hits = ExperimentList.from_file("hits.expt", check_format=False)
    strong = flex.reflection_table.from_file("strong.refl")
    # The frame that can't be classified is kept and has no spots.
    assert len(hits) == 4
    assert list(strong["id"]) == [0] * 3 + [2] * 2 + [3] * 3
    strong.assert_experiment_identifiers_are_consistent(hits)
    assert dict(strong.experiment_identifiers())[2] == "imported-2"
    x, y, z = (flumpy.to_numpy(p) for p in strong["xyzobs.px.value"].parts())
    centroids = np.stack([y, x], axis=1) - 0.5
    expected = sorted(PLACES)
    np.testing.assert_allclose(sorted(centroids[:3].tolist()), expected, atol=0.1)
    assert z.tolist() == [0.5] * 3 + [2.5] * 2 + [3.5] * 3
    assert [image["d_min"] for image in results()["images"]] == [None] * 4


def test_resolution_is_in_the_scores_and_the_report(write_cxidb76, spots, column):
    rng = np.random.default_rng(1)
    image = rng.poisson(50, (1, 200, 200)).astype(np.int32)
    grid = [(s, f) for s in range(15, 190, 30) for f in range(15, 190, 30)]
    for i, (slow, fast) in enumerate(rng.permutation(grid)[:16]):
        image[0, slow - 1 : slow + 2, fast - 1 : fast + 2] += 60
        image[0, slow, fast] += 600 + 40 * i
    centre = {"BEAM_CENTER_X": 8.9, "BEAM_CENTER_Y": 8.9}
    write_cxidb76("run1.h5", image, kind="Rayonix", distance=20.0, **centre)
    run(["run1.h5", spots, ONE, "output.strong=strong.refl"])
    (d_min,) = column("d_min")
    assert 2 < d_min < 20
    page = Path("cnn_screen.html").read_text()
    assert f"median {d_min:.1f} Å" in page
    assert f"to {d_min:.1f} A" in page


def test_pixels_go_into_one_file(spotty, spots, capsys):
    run([spotty, spots, ONE, "output.hdf5=kept.h5"])
    old = ExperimentListFactory.from_filenames([spotty])
    new = ExperimentListFactory.from_filenames(["kept.h5"])
    assert len(new) == 4
    for a, b in zip(old, new, strict=True):
        assert list(a.imageset.get_raw_data(0)[0]) == list(
            b.imageset.get_raw_data(0)[0]
        )
        assert list(a.imageset.get_mask(0)[0]) == list(b.imageset.get_mask(0)[0])
    with h5py.File("kept.h5") as handle:
        assert list(handle["entry/original/number"]) == [1, 2, 3, 4]
        assert set(handle["entry/original/file"].asstr()) == {
            str(Path(spotty).resolve())
        }
        result = handle["entry_1/result_1"]
        assert list(result["nPeaks"]) == [3, 0, 2, 3]
        found = np.stack(
            [result["peakYPosRaw"][2, :2], result["peakXPosRaw"][2, :2]], axis=1
        )
    np.testing.assert_allclose(sorted(found.tolist()), PLACES[:2], atol=0.1)
    assert "peak_list_type = cxi" in Path("kept.geom").read_text()
    assert (
        "Saved the pixels of 4 of 4 kept images to kept.h5" in capsys.readouterr().out
    )


def test_model_without_spots_has_empty_peak_lists(images, model):
    run([images, model, ONE, "output.hdf5=kept.h5"])
    with h5py.File("kept.h5") as handle:
        # Levels 250, 150, 101, 300, and that of 0, which can't be classified.
        assert list(handle["entry/original/number"]) == [1, 3, 5, 6, 7]
        assert not handle["entry_1/result_1/nPeaks"][:].any()


def test_lists(images, model):
    run([images, model, ONE, "output.events=hits.lst", "output.image_list=hits.txt"])
    path = str(Path(images).resolve())
    numbers = [1, 3, 5, 6, 7]
    assert Path("hits.lst").read_text() == "".join(
        f"{path} //{n - 1}\n" for n in numbers
    )
    assert Path("hits.txt").read_text() == "".join(f"{path} [{n}]\n" for n in numbers)


def test_nothing_is_read_again_unless_asked(images, model, monkeypatch):
    def fail(*_args: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("dials_cnn_screen.outputs.second_reading.read_kept", fail)
    run([images, model, ONE, "output.events=hits.lst"])
    assert not list(Path().glob("*.geom"))


def test_image_that_can_not_be_read_again_is_left_out(
    spotty, spots, monkeypatch, capsys
):
    from dials_cnn_screen.outputs import second_reading

    def refuse_third(imageset, index):
        if imageset.indices()[index] == 2:
            raise OSError("gone")
        return pack_image(imageset, index)

    pack_image = second_reading.pack_image
    monkeypatch.setattr(second_reading, "pack_image", refuse_third)
    run([spotty, spots, ONE, "output.hdf5=kept.h5", "output.strong=strong.refl"])
    out = capsys.readouterr().out
    assert "run1.h5 [3] can't be read again: gone" in out
    assert "Saved the pixels of 3 of 4 kept images" in out
    strong = flex.reflection_table.from_file("strong.refl")
    assert set(strong["id"]) == {0, 3}
    with h5py.File("kept.h5") as handle:
        assert list(handle["entry/original/number"]) == [1, 2, 4]


def test_model_that_finds_no_spots_has_no_table(images, model):
    with pytest.raises(Sorry, match="looks for no spots"):
        run([images, model, ONE, "output.strong=strong.refl"])


def test_images_of_two_detectors_do_not_fit_one_file(images, model, write_cxidb76):
    image = np.zeros((1, 60, 60), np.int32)
    write_cxidb76("other.h5", image, kind="Rayonix")
    with pytest.raises(Sorry, match="the images are of 2 detectors"):
        run([images, "other.h5", model, ONE, "output.hdf5=kept.h5"])

    assert not Path("kept.h5").exists()


def test_geometry_may_be_no_input_or_other_output(images, model):
    with pytest.raises(Sorry, match="is the name of two outputs"):
        run([images, model, ONE, "output.hdf5=a.h5", "output.events=a.geom"])


def test_hit_rate_of_each_file(write_levels, model, results, capsys):
    first = write_levels("run1.h5", [250, 50, 300])
    second = write_levels("run2.h5", [50, 150])
    run([str(first), str(second), model, ONE])
    found = results()
    assert found["hit_rate"] == {
        "source": "all",
        "images": 5,
        "hits": 2,
        "kept": 3,
        "failed": 0,
        "hit_percent": 40.0,
        "hit_percent_interval": [11.76, 76.93],
    }
    counts = [(r["source"], r["images"], r["hits"]) for r in found["hit_rates"]]
    assert counts == [("run1.h5", 3, 2), ("run2.h5", 2, 0)]
    out = capsys.readouterr().out
    assert "| run1.h5 |        3 |      2 | 66.7 |" in out
    page = Path("cnn_screen.html").read_text().replace(' class="number"', "")
    assert "<td>run1.h5</td><td>3</td><td>2</td><td>66.7</td>" in page
