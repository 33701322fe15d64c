from __future__ import annotations

import dataclasses
import html
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.model import (
    Crystal,
    Experiment,
    ExperimentList,
)

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.spots.out_of_distribution import OutOfDistribution

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
CLASSES = ["Hit", "Miss", "Maybe", "Miss", "Maybe", "Hit", None]


def test_every_image_has_its_entry(
    images, model, imported, results, column, expected, levels
):
    imported(images)
    run(["imported.expt", model, ONE])
    found = results()
    assert list(found) == [
        "program",
        "version",
        "model",
        "decision",
        "summary",
        "estimated_shares",
        "estimated_loss",
        "hit_rate",
        "hit_rates",
        "recurring",
        "images",
    ]
    assert found["program"] == "dials.cnn_screen"
    assert found["decision"] == {
        "threshold": 0.5,
        "max_hit_loss": None,
        "calibrated_on": None,
        "calibration_hits": None,
        "loss_of": "hits_and_maybes",
        "eye": None,
        "keep_misses": 0.0,
        "seed": 0,
    }
    assert list(found["model"]) == [
        "name",
        "sha256",
        "architecture",
        "trained_on",
        "max_spots",
        "shares",
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
        "out_of_distribution": None,
        "not_reached": 0,
    }
    assert column("class") == CLASSES
    assert column("kept") == [True, False, True, False, True, True, True]
    for i, (entry, level) in enumerate(zip(found["images"], levels, strict=True)):
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
            "p_keep",
            "kept_because",
            "out_of_distribution",
            "ood_score",
            "n_spots",
            "spots",
            "candidates",
            "d_min",
            "rings",
            "path",
        ]
        assert entry["out_of_distribution"] is entry["ood_score"] is None
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


def test_spots(write_cxidb76, spot_model, results, column, places):
    places = write_spots(write_cxidb76, "spots.h5")
    run(["spots.h5", f"model={spot_model}", ONE])
    assert results()["model"]["max_spots"] == 16
    assert column("n_spots") == [3]
    assert column("spots") == [places]
    assert "<circle" in Path("cnn_screen.html").read_text()


def test_what_is_out_of_distribution_is_kept(
    write_cxidb76, spot_model, results, column, read
):
    write_spots(write_cxidb76, "spots.h5", 7)
    plain = load_model(spot_model)
    n = plain.network.head[0].in_features
    for limit, far in ((1e-6, 7), (1e6, 0)):
        distribution = OutOfDistribution(np.zeros(n), np.eye(n), limit)
        model = dataclasses.replace(plain, out_of_distribution=distribution)
        save_model("limited.safetensors", model)
        run(["spots.h5", "model=limited.safetensors", ONE, "threshold=1"])
        assert column("class") == ["Hit"] * 7
        assert column("kept") == column("out_of_distribution") == [far == 7] * 7
        assert [x > 1 for x in column("ood_score")] == column("out_of_distribution")
        assert (
            results()["summary"]["kept"]
            == results()["summary"]["out_of_distribution"]
            == far
        )
        told = "7 of 7 images are out of the distribution of the model's training. They"
        log = Path("dials.cnn_screen.log").read_text()
        assert (told in log) == (far == 7)
        page = html.unescape(Path("cnn_screen.html").read_text())
        assert (told in page) == (far == 7)
    assert len(read("hits.expt")) == 0


def test_kept_stills_are_as_they_were(
    write_levels, model, imported, read, places, levels
):
    write_levels("run1.h5", levels, distance=np.arange(100, 107), wavelength=1.1)
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


def test_image_files_without_import(images, write_levels, model, column, read):
    write_levels("run0.h5", [300])
    run(["run*.h5", model, ONE])
    assert column("file") == ["run0.h5"] + ["run1.h5"] * 7
    assert column("frame") == [1, 1, 2, 3, 4, 5, 6, 7]
    assert len(read("hits.expt")) == 6


def test_several_experiment_files(
    images, write_levels, model, imported, column, read, places
):
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


def test_two_detectors(
    images, write_levels, write_cxidb76, model, results, column, read
):
    image = 3000 + np.indices((60, 60), np.int32).sum(axis=0, dtype=np.int32) % 2
    write_cxidb76("cspad.h5", image[None])
    run([images, "cspad.h5", model, ONE])
    assert sorted(column("file")) == ["cspad.h5"] + ["run1.h5"] * 7
    assert results()["summary"]["failed"] == 1
    assert {e.detector[0].get_pixel_size()[0] for e in read("hits.expt")} == {
        0.11,
        0.0886,
    }


def test_several_lattices_on_an_image(images, model, imported, column, read):
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


def test_rejected_is_the_complement(images, model, read, places):
    run([images, model, ONE, "output.rejected=misses.expt"])
    assert [index for _, index in places(read("misses.expt"))] == [1, 3]
    assert len(read("hits.expt")) == 5


def test_nothing_kept_and_nothing_rejected(write_levels, model, read):
    write_levels("run1.h5", [10, 20])
    run(["run1.h5", model, ONE, "output.rejected=misses.expt"])
    assert len(ExperimentList.from_file("hits.expt")) == 0
    assert len(read("misses.expt")) == 2
    run(["run1.h5", model, ONE, "output.rejected=misses.expt", "threshold=0"])
    assert len(read("hits.expt")) == 2
    assert len(ExperimentList.from_file("misses.expt")) == 0


def test_no_outputs(images, model):
    names = ("experiments", "rejected", "scores", "record", "html", "log")
    run([images, model, ONE, *(f"output.{name}=None" for name in names)])
    assert os.listdir() == ["run1.h5"]


def test_log(images, model, capsys):
    run([images, model, ONE, "keep_misses=0.0", "threshold=0.49"])
    log = Path("dials.cnn_screen.log").read_text()
    for text in (
        "dials.cnn_screen 0.",
        "The following parameters have been modified",
        "threshold = 0.49",
        "Model level (ke2018), trained on nothing",
        "| Hit                     |        2 | 28.6 |       8.2-64.1 |",
        "| Could not be classified |        1 | 14.3 |       2.6-51.3 |",
        "run1.h5 [7] could not be classified and is kept: every usable pixel",
        "images/s",
        "Saved 5 of 7 images to hits.expt",
        "To process them: dials.stills_process hits.expt",
        "Ke, T.-W.",
    ):
        assert text in log
    assert "keep_misses" not in log
    printed = capsys.readouterr()
    assert "Saved 5 of 7 images to hits.expt" in printed.out
    # The progress bar is for terminals.
    assert printed.err == ""


def test_frame_smaller_than_the_crop(write_cxidb76, model, column, expected):
    image = np.full((1, 40, 30), 300, dtype=np.int32)
    image[0, 0, 0] = 301
    centre = {"BEAM_CENTER_X": 15 * 0.0886, "BEAM_CENTER_Y": 20 * 0.0886}
    write_cxidb76("small.h5", image, kind="Rayonix", **centre)
    run(["small.h5", model, ONE])
    # Its 20 x 15 bins in the middle of the crop reach 6 x 4 of the 8 x 8 features.
    p = [column(f"p_{name}")[0] for name in ("hit", "maybe", "miss")]
    assert p == pytest.approx(expected(300 * 24 / 64 - 0.5), abs=1e-3)


def test_grid_scan(grid_scan, model, column, read):
    quick = [model, ONE, "html=None", "output.rejected=misses.expt"]
    run(["imported.expt", *quick])
    assert column("file") == [f"thau_{n}.cbf.bz2" for n in (14, 15, 16)]
    assert column("frame") == [1, 1, 1]
    assert list(read("misses.expt").identifiers()) == list(grid_scan.identifiers())
    # Some of them, chosen by the seed.
    run(["imported.expt", *quick, "keep_misses=0.4", "random_seed=1"])
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
            assert experiment.beam == grid_scan[i].beam
            assert experiment.detector == grid_scan[i].detector
            assert experiment.goniometer == grid_scan[i].goniometer
            assert experiment.scan == grid_scan[i].scan


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
    with pytest.raises(Sorry, match="invalid int value: 'much'"):
        run(["-c", "-a", "much"])
    assert "usage" not in capsys.readouterr().err


def test_verbose(images, model):
    run([images, model, ONE, "-v"])
    assert "0." in Path("dials.cnn_screen.log").read_text().splitlines()[0]
