from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.imageset import ImageSetFactory
from dxtbx.model import (
    Crystal,
    Experiment,
    ExperimentList,
    GoniometerFactory,
    ScanFactory,
)
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.familiarity import Familiarity
from dials_cnn_screen.model_file import Calibration, Model, load_model, save_model

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
LEVELS = [250, 50, 150, 99, 101, 300, 0]
CLASSES = ["Hit", "Miss", "Maybe", "Miss", "Maybe", "Hit", None]
OUTPUTS = {"hits.expt", "cnn_screen.json", "cnn_screen.html", "dials.cnn_screen.log"}


def expected(level: float) -> list[float]:
    """P(Hit), P(Maybe), P(Miss) that level_model has for a frame of write_levels."""
    f = level + 0.5
    z = np.exp([0.2 * f - 30, 0.1 * f - 10, 0])
    return list(z / z.sum())


@pytest.fixture
def model(level_model) -> str:
    return f"model={level_model}"


@pytest.fixture
def images(write_levels) -> str:
    """Seven frames of the levels above; that of level 0 is flat where not masked."""
    return str(write_levels("run1.h5", LEVELS))


def imported(*files: str, name: str = "imported.expt") -> ExperimentList:
    """What dials.import makes of the files, also written to name; with identifiers."""
    experiments = ExperimentListFactory.from_filenames(list(files))
    for i, experiment in enumerate(experiments):
        experiment.identifier = f"{Path(name).stem}-{i}"
    experiments.as_file(name)
    return experiments


def results() -> dict:
    return json.loads(Path("cnn_screen.json").read_text())


def column(key: str) -> list:
    return [image[key] for image in results()["images"]]


def read(name: str) -> ExperimentList:
    return ExperimentList.from_file(name, check_format=True)


def places(experiments: ExperimentList) -> list[tuple[str, int]]:
    """File and index of the image of each experiment of one image."""
    return [
        (Path(e.imageset.get_path(0)).name, e.imageset.indices()[0])
        for e in experiments
    ]


def start(*args: str, before: str = "", **popen: object) -> subprocess.Popen:
    """The program in a process of its own, after some lines of Python."""
    code = f"{before}\nfrom dials_cnn_screen.command_line.cnn_screen import run\nrun()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **popen,
    )


# Good input


def test_every_image_has_its_entry(images, model):
    imported(images)
    run(["imported.expt", model, ONE])
    found = results()
    assert list(found) == [
        "program",
        "version",
        "model",
        "decision",
        "summary",
        "images",
    ]
    assert found["program"] == "dials.cnn_screen"
    assert found["decision"] == {
        "threshold": 0.5,
        "max_hit_loss": None,
        "rests_on": None,
        "calibration_hits": None,
        "keep_misses": 0.0,
        "seed": 0,
    }
    assert list(found["model"]) == [
        "name",
        "sha256",
        "architecture",
        "trained_on",
        "most_spots",
    ]
    assert found["model"]["name"] == "level"
    assert len(found["model"]["sha256"]) == 64
    assert found["summary"] == {
        "images": 7,
        "hit": 2,
        "maybe": 2,
        "miss": 2,
        "failed": 1,
        "kept": 5,
        "unlike": None,
    }
    assert column("class") == CLASSES
    assert column("kept") == [True, False, True, False, True, True, True]
    for i, (entry, level) in enumerate(zip(found["images"], LEVELS, strict=True)):
        assert list(entry) == [
            "index",
            "file",
            "frame",
            "p_hit",
            "p_maybe",
            "p_miss",
            "class",
            "kept",
            "error",
            "unlike_training",
            "strangeness",
            "n_spots",
            "spots",
        ]
        assert entry["unlike_training"] is entry["strangeness"] is None
        assert entry["n_spots"] is entry["spots"] is None
        assert (entry["index"], entry["file"], entry["frame"]) == (i, "run1.h5", i + 1)
        p = [entry["p_hit"], entry["p_maybe"], entry["p_miss"]]
        if level:
            assert p == pytest.approx(expected(level), abs=1e-4)
            assert entry["error"] is None
        else:
            assert p == [None] * 3
            assert entry["error"].startswith("every usable pixel has the same value")


def write_spots(write_cxidb76, path: str, n_frames: int = 1) -> list[list[int]]:
    """Write frames of 80 x 80 pixels with three bright ones: their places."""
    rng = np.random.default_rng(0)
    images = rng.poisson(20, (n_frames, 80, 80)).astype(np.int32)
    images[:, 20, 60], images[:, 50, 30], images[:, 70, 70] = 900, 700, 500
    centre = {"BEAM_CENTER_X": 40 * 0.0886, "BEAM_CENTER_Y": 40 * 0.0886}
    write_cxidb76(path, images, kind="Rayonix", **centre)
    return [[20, 60], [50, 30], [70, 70]]


def test_spots(write_cxidb76, spot_model):
    places = write_spots(write_cxidb76, "spots.h5")
    run(["spots.h5", f"model={spot_model}", ONE])
    assert results()["model"]["most_spots"] == 16
    assert column("n_spots") == [3]
    assert column("spots") == [places]
    assert "<circle" in Path("cnn_screen.html").read_text()


def test_what_is_unlike_training_is_kept(write_cxidb76, spot_model):
    write_spots(write_cxidb76, "spots.h5", 7)
    plain = load_model(spot_model)
    n = plain.network.head[0].in_features
    for limit, unlike in ((1e-6, 7), (1e6, 0)):
        familiarity = Familiarity(np.zeros(n), np.eye(n), limit)
        model = dataclasses.replace(plain, familiarity=familiarity)
        save_model("strange.safetensors", model)
        run(["spots.h5", "model=strange.safetensors", ONE, "threshold=1"])
        assert column("class") == ["Hit"] * 7
        assert column("kept") == column("unlike_training") == [unlike == 7] * 7
        assert [x > 1 for x in column("strangeness")] == column("unlike_training")
        assert results()["summary"]["kept"] == results()["summary"]["unlike"] == unlike
        told = "7 of 7 images are unlike anything the model was trained on; they are"
        log = Path("dials.cnn_screen.log").read_text()
        assert (told in log) == (unlike == 7)
        assert (told in Path("cnn_screen.html").read_text()) == (unlike == 7)
    assert len(read("hits.expt")) == 0


def test_kept_stills_are_as_they_were(write_levels, model):
    write_levels("run1.h5", LEVELS, distance=np.arange(100, 107), wavelength=1.1)
    before = imported("run1.h5")
    run(["imported.expt", model, ONE])
    after = read("hits.expt")
    assert places(after) == [("run1.h5", i) for i in (0, 2, 4, 5, 6)]
    for (_, i), experiment in zip(places(after), after, strict=True):
        assert experiment.identifier == before[i].identifier
        assert experiment.beam == before[i].beam
        assert experiment.detector == before[i].detector
        assert experiment.detector[0].get_distance() == pytest.approx(100 + i)
        assert experiment.goniometer is None
        assert experiment.scan is None
        assert len(experiment.imageset) == 1
        np.testing.assert_array_equal(
            experiment.imageset.get_raw_data(0)[0].as_numpy_array(),
            before[i].imageset.get_raw_data(0)[0].as_numpy_array(),
        )


def test_image_files_without_import(images, write_levels, model):
    write_levels("run0.h5", [300])
    run(["run*.h5", model, ONE])
    assert column("file") == ["run0.h5"] + ["run1.h5"] * 7
    assert column("frame") == [1, 1, 2, 3, 4, 5, 6, 7]
    assert len(read("hits.expt")) == 6


def test_several_experiment_files(images, write_levels, model):
    write_levels("run2.h5", [50, 300], wavelength=2.0)
    imported("run2.h5", name="two.expt")
    imported("run1.h5", name="one.expt")
    run(["two.expt", "one.expt", model, ONE])
    assert column("index") == list(range(9))
    # DIALS takes what it is given in the order of the names.
    assert column("file") == ["run1.h5"] * 7 + ["run2.h5"] * 2
    assert column("class") == [*CLASSES, "Miss", "Hit"]
    after = read("hits.expt")
    assert places(after)[-2:] == [("run1.h5", 6), ("run2.h5", 1)]
    assert [e.beam.get_wavelength() for e in after][-2:] == [1.3, 2.0]


def test_two_detectors(images, write_levels, write_cxidb76, model):
    image = 3000 + np.indices((60, 60), np.int32).sum(axis=0, dtype=np.int32) % 2
    write_cxidb76("cspad.h5", image[None])
    run([images, "cspad.h5", model, ONE])
    assert sorted(column("file")) == ["cspad.h5"] + ["run1.h5"] * 7
    assert results()["summary"]["failed"] == 1
    assert {e.detector[0].get_pixel_size()[0] for e in read("hits.expt")} == {
        0.11,
        0.0886,
    }


def test_several_lattices_on_an_image(images, model):
    experiments = imported(images)
    lattices = ExperimentList()
    for number, cell in ((0, 10), (0, 20), (1, 30), (1, 40), (2, 50)):
        crystal = Crystal((cell, 0, 0), (0, cell, 0), (0, 0, cell), "P1")
        e = experiments[number]
        lattices.append(
            Experiment(
                identifier=str(cell),
                beam=e.beam,
                detector=e.detector,
                imageset=e.imageset,
                crystal=crystal,
            )
        )
    lattices.as_file("indexed.expt")
    run(["indexed.expt", model, ONE])
    assert column("frame") == [1, 2, 3]
    assert column("class") == ["Hit", "Miss", "Maybe"]
    after = read("hits.expt")
    assert list(after.identifiers()) == ["10", "20", "50"]
    cells = [e.crystal.get_unit_cell().parameters()[0] for e in after]
    assert cells == pytest.approx([10, 20, 50])


def test_rejected_is_the_complement(images, model):
    run([images, model, ONE, "output.rejected=misses.expt"])
    assert [index for _, index in places(read("misses.expt"))] == [1, 3]
    assert len(read("hits.expt")) == 5


def test_nothing_kept_and_nothing_rejected(write_levels, model):
    write_levels("run1.h5", [10, 20])
    run(["run1.h5", model, ONE, "output.rejected=misses.expt"])
    assert len(ExperimentList.from_file("hits.expt")) == 0
    assert len(read("misses.expt")) == 2
    run(["run1.h5", model, ONE, "output.rejected=misses.expt", "threshold=0"])
    assert len(read("hits.expt")) == 2
    assert len(ExperimentList.from_file("misses.expt")) == 0


def test_no_outputs(images, model):
    names = ("experiments", "rejected", "scores", "html", "log")
    run([images, model, ONE, *(f"output.{name}=None" for name in names)])
    assert os.listdir() == ["run1.h5"]


@pytest.mark.parametrize(("threshold", "kept"), [(0, 7), (0.3, 4), (1, 1)])
def test_threshold(write_levels, model, threshold, kept):
    # P(Hit) + P(Maybe) is 0.37 at level 94; level 0 can't be judged and is kept.
    images = str(write_levels("run1.h5", [10, 20, 30, 94, 99, 101, 0]))
    run([images, model, ONE, f"decision.threshold={threshold}"])
    assert results()["decision"]["threshold"] == threshold
    assert results()["summary"]["kept"] == kept == len(read("hits.expt"))


def test_class_does_not_depend_on_the_threshold(images, model):
    run([images, model, ONE, "threshold=0"])
    assert column("class") == CLASSES


def test_max_hit_loss(images, model):
    run([images, model, ONE, "decision.max_hit_loss=0.05"])
    # The 10th of 199 calibration hits at 0.005, 0.010, ...: 10 = 0.05 (199 + 1).
    assert results()["decision"] == {
        "threshold": pytest.approx(0.05),
        "max_hit_loss": 0.05,
        "rests_on": "a ramp",
        "calibration_hits": 199,
        "keep_misses": 0.0,
        "seed": 0,
    }
    told = (
        "P(Hit) + P(Maybe) is 0.05 or more, the threshold at which at most 5% of the "
        "hits are expected to be lost (split conformal prediction), for images drawn "
        "like the 199 hits that this rests on: a ramp."
    )
    log = Path("dials.cnn_screen.log").read_text()
    assert told in " ".join(log.split())
    assert max(map(len, log.splitlines())) < 140  # a citation is the longest
    assert told in Path("cnn_screen.html").read_text()


def test_max_hit_loss_needs_calibration(images, level_model):
    old = load_model(level_model)
    fields = {k: v for k, v in vars(old).items() if k not in ("calibration", "sha256")}
    save_model("bare.safetensors", Model(calibration=Calibration(), **fields))
    with pytest.raises(Sorry, match=r"there are 0; .* or set threshold"):
        run([images, ONE, "model=bare.safetensors", "decision.max_hit_loss=0.05"])
    assert not Path("hits.expt").exists()


@pytest.fixture
def labels(images, model) -> list[str]:
    """The seven images screened, and labelled Hit or Maybe from level 99 on."""
    run([images, model, ONE, "html=None", "output.experiments=None"])
    os.rename("cnn_screen.json", "earlier.json")
    lines = [
        f"run1.h5 [{i + 1}] {'HIT' if level >= 99 else 'MISS'}\n"
        for i, level in enumerate(LEVELS)
    ]
    Path("labels.txt").write_text("".join([*lines[:-1], "run1.h5 [7] HIT\n"]))
    return ["calibration.annotation=labels.txt", "calibration.scores=earlier.json"]


def test_max_hit_loss_on_own_labels(images, model, labels):
    run([images, model, ONE, *labels, "max_hit_loss=0.35"])
    # Five are labelled and judged: k = floor(0.35 x 6) = 2, and that is level 101.
    assert results()["decision"] == {
        "threshold": pytest.approx(1 - expected(101)[2], abs=2e-4),
        "max_hit_loss": 0.35,
        "rests_on": "5 Hit or Maybe labelled in labels.txt",
        "calibration_hits": 5,
        "keep_misses": 0.0,
        "seed": 0,
    }
    assert column("kept") == [True, False, True, False, True, True, True]
    log = Path("dials.cnn_screen.log").read_text()
    assert "1 of the 7 labels in labels.txt are left out: not judged, or unlike" in log
    told = "drawn like the 5 hits that this rests on: 5 Hit or Maybe labelled in"
    assert told in " ".join(log.split())
    assert told in Path("cnn_screen.html").read_text()


@pytest.mark.parametrize(
    ("leave_out", "options", "message"),
    [
        (0, ["max_hit_loss=0.35"], "go together: give both"),
        (1, ["max_hit_loss=0.35"], "go together: give both"),
        (2, [], "max_hit_loss, which is not set; set it"),
        (2, ["max_hit_loss=0.1"], "needs 9 calibration hits, and there are 5; label"),
        (2, ["max_hit_loss=0.35", "model=default"], "are of model level .* default .*"),
        (2, ["max_hit_loss=0.35", "calibration.scores=run1.h5"], "not a scores file"),
        (2, ["max_hit_loss=0.35", "calibration.annotation=gone"], "gone.*No such file"),
    ],
)
def test_labels_that_cannot_be_used(images, model, labels, leave_out, options, message):
    given = [label for i, label in enumerate(labels) if i != leave_out]
    with pytest.raises(Sorry, match=message) as problem:
        run([images, model, ONE, *given, *options])
    assert "\n" not in str(problem.value)
    assert not Path("hits.expt").exists()


def test_keep_misses_is_reproducible(write_levels, model):
    write_levels("run1.h5", [50] * 40)
    kept = []
    for seed in (0, 0, 1):
        run(["run1.h5", model, ONE, "keep_misses=0.5", f"random_seed={seed}"])
        kept.append(column("kept"))
    assert kept[0] == kept[1] != kept[2]
    assert 8 < sum(kept[0]) < 32
    assert set(column("class")) == {"Miss"}


def test_two_processes_give_the_same(write_levels, model):
    write_levels("run1.h5", [*LEVELS, *range(60, 140, 3)])
    run(["run1.h5", model, ONE])
    one = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    run(["run1.h5", model, "mp.nproc=2"])
    two = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    assert one == two


def test_mpi_gives_the_same(images, model):
    pytest.importorskip("mpi4py")
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun")
    run([images, model, ONE])
    one = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    code = "from dials_cnn_screen.command_line.cnn_screen import run; run()"
    program = ["mpirun", "--oversubscribe", "-n", "2", sys.executable, "-c", code]
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    ranks = subprocess.run(
        [*program, images, model, "mp.method=mpi"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ranks.stdout.count("Saved the scores") == 1
    assert ranks.stdout.count("2 MPI ranks") == 1
    two = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    assert one == two


def test_without_mpi4py(images, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(Sorry, match="needs mpi4py"):
        run([images, model, "mp.method=mpi"])


def test_log(images, model, capsys):
    run([images, model, ONE, "keep_misses=0.0", "threshold=0.49"])
    log = Path("dials.cnn_screen.log").read_text()
    for text in (
        "dials.cnn_screen 0.",
        "The following parameters have been modified",
        "threshold = 0.49",
        "Model level (ke2018), trained on nothing",
        "| Hit                 |        2 | 28.6 |       8.2-64.1 |",
        "| Could not be judged |        1 | 14.3 |       2.6-51.3 |",
        "run1.h5 [7] could not be judged and is kept: every usable pixel",
        "images/s",
        "Saved 5 of 7 images to hits.expt",
        "Ke, T.-W.",
    ):
        assert text in log
    assert "keep_misses" not in log
    printed = capsys.readouterr()
    assert "Saved 5 of 7 images to hits.expt" in printed.out
    # The progress bar is for terminals.
    assert printed.err == ""


def test_frame_smaller_than_the_crop(write_cxidb76, model):
    image = np.full((1, 40, 30), 300, dtype=np.int32)
    image[0, 0, 0] = 301
    centre = {"BEAM_CENTER_X": 15 * 0.0886, "BEAM_CENTER_Y": 20 * 0.0886}
    write_cxidb76("small.h5", image, kind="Rayonix", **centre)
    run(["small.h5", model, ONE])
    # Its 20 x 15 bins in the middle of the crop reach 6 x 4 of the 8 x 8 features.
    p = [column(f"p_{name}")[0] for name in ("hit", "maybe", "miss")]
    assert p == pytest.approx(expected(300 * 24 / 64 - 0.5), abs=1e-3)


def grid_scan(real_images: Path, name: str) -> ExperimentList:
    """Three stills as one sequence without oscillation, numbered from 14, in name."""
    for number in (14, 15, 16):
        shutil.copy(real_images / "thau_3_2_0017.cbf.bz2", f"thau_{number}.cbf.bz2")
    first = ExperimentListFactory.from_filenames(["thau_14.cbf.bz2"])[0]
    times = {i: float(i) for i in range(3)}
    sequence = ImageSetFactory.make_sequence(
        "thau_##.cbf.bz2",
        [14, 15, 16],
        beam=first.beam,
        detector=first.detector,
        goniometer=first.goniometer,
        scan=ScanFactory.make_scan((14, 16), 0.1, (90, 0), times),
    )
    experiments = ExperimentListFactory.from_imageset_and_crystal(sequence, None)
    # As dxtbx has it: an experiment for each image, all with the whole sequence.
    assert [len(experiment.imageset) for experiment in experiments] == [3, 3, 3]
    for i, experiment in enumerate(experiments):
        experiment.identifier = f"grid-{i}"
    experiments.as_file(name)
    return experiments


def test_grid_scan(real_images, model):
    before = grid_scan(real_images, "imported.expt")
    quick = [model, ONE, "html=None", "output.rejected=misses.expt"]
    run(["imported.expt", *quick])
    assert column("file") == [f"thau_{n}.cbf.bz2" for n in (14, 15, 16)]
    assert column("frame") == [1, 1, 1]
    assert list(read("misses.expt").identifiers()) == list(before.identifiers())
    # Some of them, chosen by the seed.
    run(["imported.expt", *quick, "keep_misses=0.4"])
    for name, chosen in (("hits.expt", True), ("misses.expt", False)):
        indices = [i for i, kept in enumerate(column("kept")) if kept is chosen]
        assert 0 < len(indices) < 3
        after = read(name)
        assert list(after.identifiers()) == [f"grid-{i}" for i in indices]
        for i, experiment in zip(indices, after, strict=True):
            # That image alone, or find_spots would go through the rejected ones too.
            paths = [Path(path).name for path in experiment.imageset.paths()]
            assert paths == [f"thau_{14 + i}.cbf.bz2"]
            assert len(experiment.imageset) == 1
            assert experiment.is_still()
            assert experiment.beam == before[i].beam
            assert experiment.detector == before[i].detector
            assert experiment.goniometer == before[i].goniometer
            assert experiment.scan == before[i].scan


# Frames that cannot be judged: an entry with the reason, and kept


def corrupt(path: str, index: int) -> None:
    """Store the images of a file compressed, and spoil the bytes of one."""
    with h5py.File(path, "a") as file:
        chunk = file["data/chunk0"]
        images = chunk["images"][()]
        del chunk["images"]
        stored = chunk.create_dataset(
            "images", data=images, chunks=(1, *images.shape[1:]), compression="gzip"
        )
        place = stored.id.get_chunk_info(index)
    with open(path, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)


@pytest.mark.parametrize("nproc", [1, 2])
def test_one_unreadable_image_among_a_hundred(write_levels, model, nproc):
    write_levels("run1.h5", [50] * 100)
    corrupt("run1.h5", 41)
    # The report is of the pictures that can be read.
    run(["run1.h5", model, f"mp.nproc={nproc}"])
    assert results()["summary"] == {
        "images": 100,
        "hit": 0,
        "maybe": 0,
        "miss": 99,
        "failed": 1,
        "kept": 1,
        "unlike": None,
    }
    error = column("error").pop(41)
    assert "cannot read image 41" in error
    assert "\n" not in error
    assert places(read("hits.expt")) == [("run1.h5", 41)]
    assert "cannot read image 41" in Path("cnn_screen.html").read_text()
    log = Path("dials.cnn_screen.log").read_text()
    assert "run1.h5 [42] could not be judged and is kept" in log


def test_one_file_missing_among_some(real_images, model):
    grid_scan(real_images, "imported.expt")
    os.unlink("thau_15.cbf.bz2")
    run(["imported.expt", model, ONE, "html=None"])
    assert [error is None for error in column("error")] == [True, False, True]
    assert column("kept") == [False, True, False]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((80, 80)), "every pixel is masked"),
        (np.full((80, 80), 65535), "every pixel is masked or outside the trusted"),
        (np.full((80, 80), 70000), "every pixel is masked or outside the trusted"),
        (np.full((80, 80), 17), "every usable pixel has the same value, 17"),
    ],
    ids=["zero", "saturated", "overloaded", "constant"],
)
def test_frame_without_content(write_levels, model, image, error):
    write_levels("run1.h5", [50, 50, 50])
    with h5py.File("run1.h5", "a") as file:
        file["data/chunk0/images"][1] = image
    run(["run1.h5", model, ONE])
    assert column("class") == ["Miss", None, "Miss"]
    assert column("kept") == [False, True, False]
    assert error in column("error")[1]


# Bad input: one line, and nothing written


def text(path: str) -> str:
    Path(path).write_text("hello\n")
    return path


def images_gone(path: str) -> str:
    shutil.copy("run1.h5", "gone.h5")
    imported("gone.h5", name=path)
    os.unlink("gone.h5")
    return path


def truncated(path: str) -> str:
    Path(path).write_bytes(Path("run1.h5").read_bytes()[:9000])
    return path


def other_layout(path: str) -> str:
    with h5py.File(path, "w") as file:
        file["something"] = [1, 2]
    return path


def rotation_scan(path: str) -> str:
    experiments = imported("run1.h5")[:1]
    experiments[0].goniometer = GoniometerFactory.known_axis((1, 0, 0))
    experiments[0].scan = ScanFactory.make_scan((1, 1), 0.1, (0, 0.1), {1: 0.0})
    experiments.as_file(path)
    return path


def without_images(path: str) -> str:
    experiments = imported("run1.h5")[:1]
    experiments[0].imageset = None
    experiments.as_file(path)
    return path


UNUSABLE = [
    (str, "missing.h5", "no file 'missing.h5'"),
    (str, "missing.expt", "no file 'missing.expt'"),
    (str, "*.none", r"no file '\*.none'"),
    (str, "--nproc", "no file '--nproc', nor a parameter or option"),
    (text, "text.expt", '"text.expt".* neither an image .* nor an experiment list'),
    (text, "note.txt", '"note.txt".* neither an image .* nor an experiment list'),
    (other_layout, "other.h5", '"other.h5".* neither an image'),
    (truncated, "short.h5", "short.h5 can't be read: .*truncated"),
    (images_gone, "gone.expt", '"gone.expt".* No such file .*gone.h5'),
    (rotation_scan, "scan.expt", "rotation scan.*convert_sequences_to_stills=True"),
    (without_images, "bare.expt", "experiment 7 has no images"),
]


@pytest.mark.parametrize(
    ("make", "name", "message"), UNUSABLE, ids=[case[1] for case in UNUSABLE]
)
def test_unusable_input(
    images, model, make: Callable[[str], str], name: str, message: str
):
    make(name)
    with pytest.raises(Sorry, match=message) as problem:
        # Never the others alone: what is given is judged, or nothing is.
        run([images, name, model, ONE])
    assert "\n" not in str(problem.value)
    assert not Path("hits.expt").exists()
    assert not Path("cnn_screen.json").exists()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("nonsense=3", "Unknown command line parameter definition: nonsense = 3"),
        ("output=3", "Ambiguous parameter definition|Unknown"),
        ("decision.threshold=high", "decision.threshold="),
        ("decision.threshold=1.5", "greater than the maximum allowed value: 1.5 > 1"),
        ("decision.threshold=-1", "less than the minimum allowed value: -1 < 0"),
        ("mp.nproc=0", "less than the minimum allowed value: 0 < 1"),
        ("mp.method=threads", r"choices are: \*multiprocessing mpi"),
        ("device=tpu", r"choices are: \*auto cpu cuda"),
        ("device=None", r"choices are: \*auto cpu cuda"),
        ("decision.threshold=None", "decision.threshold cannot be None"),
        ("model=missing.safetensors", "'missing.safetensors' is not a file"),
        ("model=.", "is not a file"),
        ("model=None", "no model: give model=default or a file"),
        ("model=run1.h5", "not a model file"),
        ("output.experiments=no/hits.expt", "there is no folder"),
        ("output.scores=run1.h5/scores.json", "there is no folder"),
        ("output.html=/proc/page.html", "can't be written"),
        ("output.rejected=.", "it is a folder"),
        ("output.log=no/log", "there is no folder"),
        ("output.rejected=hits.expt", "two outputs"),
    ],
)
def test_unusable_parameter(images, model, parameter, message):
    with pytest.raises(Sorry, match=message) as problem:
        run([images, model, ONE, parameter])
    assert "\n" not in str(problem.value)
    assert not OUTPUTS - {"dials.cnn_screen.log"} & set(os.listdir())


def test_gpu_without_a_gpu(images, model):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(Sorry, match="torch finds no GPU; set device=cpu"):
        run([images, model, ONE, "device=cuda"])


def test_truncated_model(images, level_model):
    Path("short.safetensors").write_bytes(level_model.read_bytes()[:-100])
    with pytest.raises(Sorry, match=r"short.safetensors.* damaged"):
        run([images, ONE, "model=short.safetensors"])


@pytest.mark.parametrize("args", [[], ["mp.nproc=1"], ["-v"]], ids=str)
def test_no_images(args, model):
    with pytest.raises(Sorry, match="no images: give an"):
        run([model, *args])


def test_no_image_can_be_judged(write_levels, model):
    write_levels("run1.h5", [0, 0])
    with pytest.raises(Sorry, match=r"not one of the 2 images .* first, run1.h5: ever"):
        run(["run1.h5", model, ONE])
    assert not Path("hits.expt").exists()


def test_older_outputs_survive_an_error(images, write_levels, model):
    names = ("hits.expt", "cnn_screen.json", "cnn_screen.html")
    for name in names:
        Path(name).write_text("older")
    write_levels("dark.h5", [0])
    for bad in (["dark.h5", model], [images, "model=gone"], [images, model, "x=1"]):
        with pytest.raises(Sorry):
            run([*bad, ONE])
    assert [Path(name).read_text() for name in names] == ["older"] * 3
    assert not list(Path().glob(".*"))


# From a shell


def test_error_in_a_shell(images):
    program = start("missing.h5", ONE)
    out, errors = program.communicate(timeout=60)
    assert program.returncode == 1
    assert errors == (
        "Sorry: there is no file 'missing.h5', nor a parameter or option so named\n"
    )
    assert out == ""


SLOW = """
from dials_cnn_screen import screening
from time import sleep
examine = screening.examine
def slowly(*args):
    print("judging", flush=True)
    sleep(0.1)
    return examine(*args)
screening.examine = slowly
"""


def workers(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def wait_for_the_first_image(program: subprocess.Popen) -> None:
    for line in program.stdout:
        if "judging" in line:
            return
    pytest.fail(program.stderr.read())


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"processes left: {left}"
        time.sleep(0.05)


@pytest.fixture
def slow_run(write_levels, model):
    """Start the program on 200 images at 0.1 s each; kill what is left of it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    write_levels("run1.h5", [50] * 200)
    programs = []

    def start_slow_run(nproc: int) -> subprocess.Popen:
        programs.append(start("run1.h5", model, f"mp.nproc={nproc}", before=SLOW))
        wait_for_the_first_image(programs[-1])
        return programs[-1]

    yield start_slow_run
    for program in programs:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("nproc", [1, 2])
def test_interrupt(slow_run, nproc):
    program = slow_run(nproc)
    children = workers(program.pid)
    assert len(children) == (2 if nproc == 2 else 0)
    for pid in (program.pid, *children):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert errors == "Sorry: interrupted; no result was written\n"
    assert program.returncode == 1
    assert_gone(children)
    assert set(os.listdir()) == {"run1.h5", "dials.cnn_screen.log"}


def test_worker_that_is_killed(slow_run):
    program = slow_run(2)
    children = workers(program.pid)
    os.kill(children[0], signal.SIGKILL)
    _, errors = program.communicate(timeout=30)
    assert errors.startswith("Sorry: a process died")
    assert errors.count("\n") == 1
    assert program.returncode == 1
    assert_gone(children)
    assert set(os.listdir()) == {"run1.h5", "dials.cnn_screen.log"}


def test_workers_end_with_a_parent_that_is_killed(slow_run):
    program = slow_run(2)
    children = workers(program.pid)
    program.kill()
    program.wait()
    assert_gone(children)


# Options as in all DIALS programs


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        (["-h"], ["usage: dials.cnn_screen", "mpirun -n 64", "threshold"], [".help"]),
        (["-c"], ["threshold = 0.5", "experiments = hits.expt"], ["usage", ".help"]),
        (["-c", "-a2"], [".help", ".type"], ["tolerance"]),
        (["-c", "-e2"], ["tolerance"], [".help"]),
        (["-h", "-v", "-v"], ["usage", ".help"], []),
    ],
    ids=" ".join,
)
def test_help(capsys, options, shown, hidden):
    with pytest.raises(SystemExit) as finished:
        run(options)
    assert finished.value.code == 0
    out = capsys.readouterr().out
    assert [text for text in shown if text not in out] == []
    assert [text for text in hidden if text in out] == []
    assert os.listdir() == []


def test_option_with_a_wrong_value(capsys):
    with pytest.raises(SystemExit) as finished:
        run(["-c", "-a", "much"])
    assert finished.value.code == 2
    assert "invalid int value: 'much'" in capsys.readouterr().err


def test_verbose(images, model):
    run([images, model, ONE, "-v"])
    assert "0." in Path("dials.cnn_screen.log").read_text().splitlines()[0]
