from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.command_line.find_spots import run as find_spots
from dxtbx.model.experiment_list import ExperimentListFactory
from refusals import refused

from dials_cnn_screen.command_line.cnn_evaluate import run
from dials_cnn_screen.command_line.cnn_screen import run as screen

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
DEPOSITED = Path(__file__).resolve().parents[3] / "shared" / "cxidb76" / "annotation"
# Mean level of each frame, by which level_model tells the class; the expert's label;
# and spots of 3 x 3 pixels that are on the frame.
LEVELS = [250, 50, 150, 60, 120, 300, 0, 70]
LABELS = ["HIT", "HIT", "MAYBE", "MISS", "MISS", "HIT", "MISS", "MISS"]
SPOTS = [6, 2, 0, 1, 0, 6, 0, 0]
# So that every spot is found.
FINDING = [
    "find_spots=default",
    "spotfinder.threshold.algorithm=dispersion",
    "spotfinder.threshold.dispersion.gain=1",
    "spotfinder.threshold.dispersion.global_threshold=400",
    "spotfinder.filter.min_spot_size=2",
]
OUTPUTS = {"cnn_evaluate.json", "cnn_evaluate.html", "dials.cnn_evaluate.log"}


@pytest.fixture
def model(level_model) -> str:
    return f"model={level_model}"


@pytest.fixture
def images(write_cxidb76) -> str:
    """Frames of these levels and spots; that of level 0 is flat where not masked."""
    ripple = np.indices((80, 80)).sum(axis=0) % 2
    frames = []
    for level, n_spots in zip(LEVELS, SPOTS, strict=True):
        frame = level + ripple
        for i in range(n_spots):
            frame[10 + 10 * i : 13 + 10 * i, 60:63] = 500
        frames.append(frame)
    centre = 40 * 0.0886
    path = write_cxidb76(
        "run1.h5",
        np.array(frames, np.int32),
        kind="Rayonix",
        BEAM_CENTER_X=centre,
        BEAM_CENTER_Y=centre,
    )
    ExperimentListFactory.from_filenames([str(path)]).as_file("imported.expt")
    return "imported.expt"


@pytest.fixture
def labels() -> str:
    lines = [f"run1.h5 [{i}] {label}" for i, label in enumerate(LABELS, start=1)]
    Path("labels.txt").write_text("\n".join(lines))
    return "annotation=labels.txt"


@pytest.fixture
def counts() -> str:
    lines = [f"{i:05d} {n:5d} Miss" for i, n in enumerate(SPOTS, start=1) if n]
    Path("counts.txt").write_text("\n".join(lines))
    return "spot_counts=counts.txt"


def results() -> dict:
    return json.loads(Path("cnn_evaluate.json").read_text())


def log() -> str:
    return Path("dials.cnn_evaluate.log").read_text()


def column(key: str) -> list:
    return [image[key] for image in results()["images"]]


# Good input


def test_model_and_spots_on_the_same_images(images, labels, model):
    run([images, labels, model, *FINDING, "min_spots=2", ONE])
    found = results()
    assert list(found) == [
        "program",
        "version",
        "versions",
        "parameters",
        "model",
        "eye",
        "expert",
        "training",
        "cnn",
        "spotfinder",
        "matched",
        "audit",
        "images",
    ]
    assert found["expert"] == {"hit": 3, "maybe": 1, "miss": 4}
    assert found["model"]["name"] == "level"
    assert column("class") == [
        *("Hit", "Miss", "Maybe", "Miss", "Maybe", "Hit"),
        *(None, "Miss"),
    ]
    assert column("spotfinder_spots") == SPOTS
    # The flat frame could not be classified, and is kept.
    assert found["cnn"]["confusion_counts"] == [[3, 1], [2, 2]]
    assert found["cnn"]["failed"] == 1
    assert found["spotfinder"]["confusion_counts"] == [[3, 1], [0, 4]]
    assert found["matched"]["specificity"] == 0.5
    assert set(found["cnn"]["seconds"]) == {"reading", "preparing", "classifying"}
    assert set(found["spotfinder"]["seconds"]) == {"reading", "finding"}
    assert {path.name for path in Path().iterdir()} >= OUTPUTS
    assert "run1.h5 [7] could not be classified and is kept" in log()
    assert "75.0 (30.1-95.4)" in log()
    page = Path("cnn_evaluate.html").read_text()
    assert 'alt="run1.h5 [2]"' in page
    assert 'alt="run1.h5 [5]"' in page


def test_earlier_scores_and_counts_say_the_same(images, labels, model, counts):
    run([images, labels, model, *FINDING, "min_spots=2", ONE])
    at_once = results()
    screen([images, model, ONE])
    Path("cnn_evaluate.json").unlink()
    run([labels, "scores=cnn_screen.json", counts, "min_spots=2"])
    later = results()
    assert later["matched"] == at_once["matched"]
    for key in ("cnn", "spotfinder"):
        for found in (later, at_once):
            found[key].pop("seconds")
            found[key].pop("source", None)
            found[key].pop("parameters", None)
        assert later[key] == at_once[key]
    assert "No pictures" in Path("cnn_evaluate.html").read_text()


def test_reflections_of_dials_find_spots(images, labels):
    find_spots([images, *FINDING[1:], "nproc=1"])
    run([images, labels, "model=None", "reflections=strong.refl", "min_spots=2"])
    assert results()["cnn"] is results()["matched"] is None
    assert column("spotfinder_spots") == SPOTS


def test_on_many_processes(images, labels, model):
    run([images, labels, model, *FINDING, "nproc=2"])
    assert column("spotfinder_spots") == SPOTS
    assert column("kept") == [True, False, True, False, True, True, True, False]


def test_parameters_by_name_can_be_changed(images, labels):
    run([images, labels, "model=None", "find_spots=L498", "min_spot_size=1", ONE])
    text = log()
    assert "gain = 4.55" in text
    assert "min_spot_size = 1" in text
    # The cut of Fig. 7 comes with the parameters.
    assert results()["spotfinder"]["min_spots"] == 30
    # Also back to DIALS's own.
    run([images, labels, "model=None", "find_spots=L498", "global_threshold=0", ONE])
    parameters = results()["spotfinder"]["parameters"]
    assert "gain = 4.55" in parameters
    assert "global_threshold" not in parameters


def test_mask_as_in_the_paper(images, labels):
    """spotfinder.lookup.mask, as the masks that are deposited."""
    from dials.array_family import flex
    from libtbx import easy_pickle

    mask = flex.bool(flex.grid(80, 80), True)
    for i in range(80):
        for j in range(40):
            mask[j, i] = False
    easy_pickle.dump("mask.pickle", (mask,))
    masked = ["spotfinder.lookup.mask=mask.pickle", "model=None", ONE]
    run([images, labels, *FINDING, *masked])
    # Of those in a column the ones below row 40 are left.
    assert column("spotfinder_spots") == [3, 0, 0, 0, 0, 3, 0, 0]


def test_cut_chosen_on_other_images(images, labels, counts):
    Path("labels.txt").write_text(
        "\n".join(Path("labels.txt").read_text().split("\n")[:4])
    )
    Path("others.txt").write_text("run1.h5 [6] HIT\nrun1.h5 [7] MISS\n")
    run([labels, counts, "training.annotation=others.txt"])
    found = results()
    assert found["expert"] == {"hit": 2, "maybe": 1, "miss": 1}
    assert found["training"] == {"hit": 1, "maybe": 0, "miss": 1}
    assert found["spotfinder"]["at_best_cut"]["min_spots"] == 6
    assert found["spotfinder"]["at_best_cut"]["confusion_counts"] == [[1, 2], [0, 1]]
    assert column("training") == [False] * 4 + [True] * 2
    told = "Images to choose cuts in spots on: 2 (1 Hit, 0 Maybe, 1 Miss)"
    assert told in log()
    assert "Images to evaluate on: 4 (2 Hit, 1 Maybe, 1 Miss)" in log()


def test_images_without_a_label_are_left_out(images, labels, model):
    Path("labels.txt").write_text("run1.h5 [1] HIT\nrun1.h5 [4] MISS\nrun1.h5 [5] None")
    run([images, labels, model, ONE])
    assert column("frame") == [1, 4]
    assert "Images without a label, left out: 6" in log()


def test_table_3_from_the_deposited_files():
    folder = DEPOSITED / "L498"
    if not folder.is_dir():
        pytest.skip(f"no deposited annotation in {folder}")
    annotation = f"annotation={folder}/expert_annotation.txt"
    run([annotation, f"spot_counts={folder}/dials_annotation.txt", "min_spots=30"])
    assert results()["expert"] == {"hit": 148, "maybe": 498, "miss": 1354}
    percent = results()["spotfinder"]["confusion_percent"]
    assert percent == [[12.8, 87.2], [0.5, 99.5]]
    assert "64 images without a line in" in log()


@pytest.fixture
def two_runs(write_levels) -> list[str]:
    """Files of one name in two folders, two images in each."""
    Path("labels.txt").write_text(
        "run1/data.h5 [1] HIT\nrun1/data.h5 [2] MISS\n"
        "run2/data.h5 [1] MISS\nrun2/data.h5 [2] MAYBE\n"
    )
    files = []
    for folder, levels in (("run1", [250, 50]), ("run2", [60, 150])):
        Path(folder).mkdir()
        files.append(str(write_levels(f"{folder}/data.h5", levels)))
    return files


@pytest.mark.parametrize("with_images", [True, False])
def test_files_of_one_name_in_two_folders(two_runs, model, with_images):
    screen([*two_runs, model, ONE])
    given = two_runs if with_images else []
    run([*given, "annotation=labels.txt", "scores=cnn_screen.json"])
    assert results()["cnn"]["confusion_counts"] == [[2, 0], [0, 2]]
    names = [(image["file"], image["frame"]) for image in results()["images"]]
    assert names == [(f"run{run}/data.h5", i) for run in (1, 2) for i in (1, 2)]
    assert column("class") == ["Hit", "Miss", "Miss", "Maybe"]


def test_model_on_files_of_one_name(two_runs, model):
    run([*two_runs, "annotation=labels.txt", model, *FINDING, ONE])
    assert results()["cnn"]["confusion_counts"] == [[2, 0], [0, 2]]
    assert column("spotfinder_spots") == [0] * 4


def test_threshold_that_differs_from_that_of_the_scores(images, labels, model):
    """An image is kept by the threshold that is evaluated, in the one way there is."""
    screen([images, model, ONE])
    run([labels, "scores=cnn_screen.json", "decision.threshold=0"])
    assert results()["cnn"]["confusion_counts"] == [[4, 0], [4, 0]]
    assert column("kept") == [True] * 8
    # The classes do not depend on it.
    assert column("class")[:2] == ["Hit", "Miss"]


@pytest.mark.parametrize("args", [[], ["-h"]])
def test_help_without_heavy_imports(args):
    code = (
        "import sys\n"
        "from dials_cnn_screen.command_line.cnn_evaluate import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numba', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    assert "dials.cnn_evaluate [options]" in done.stdout
    assert done.stdout.endswith("set()\n")


# Bad input


def test_no_labels(images, model):
    assert "give annotation=labels.txt" in refused(images, model)


def test_nothing_to_evaluate(images, labels):
    assert "nothing to compare with the labels" in refused(labels)
    assert "nothing to compare" in refused(images, labels, "model=None")


def test_spots_from_two_places(labels, counts):
    message = refused(labels, counts, "find_spots=LO19")
    assert "spot_counts and find_spots; leave one out" in message


@pytest.mark.parametrize("source", ["find_spots=LO19", "reflections=strong.refl"])
def test_spots_without_images(labels, source):
    assert f"{source.split('=')[0]} needs the images" in refused(labels, source)


def test_cut_without_spots(images, labels, model):
    assert "min_spots needs spots" in refused(images, labels, model, "min_spots=3")


def test_two_training_splits(labels, counts):
    both = ("training.fraction=0.5", "training.annotation=labels.txt")
    assert "leave one out" in refused(labels, counts, *both)


def test_label_of_an_image_that_is_not_there(images, labels, model):
    with open("labels.txt", "a") as out:
        out.write("\nrun1.h5 [9] HIT")
    message = refused(images, labels, model, ONE)
    assert "labels.txt, line 9: run1.h5 [9] is labelled, but not among" in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run1.h5 [3] HOT", "'HOT' is not one of"),
        ("run1.h5 [1] HIT", "line 9: run1.h5 [1] is labelled twice"),
        ("00001 22 Miss", "is not of the form"),
    ],
)
def test_bad_labels(counts, labels, line, told):
    with open("labels.txt", "a") as out:
        out.write(f"\n{line}")
    assert told in refused(labels, counts)


@pytest.mark.parametrize("name", ["spot_counts", "scores", "annotation"])
def test_file_that_is_not_there(labels, counts, name):
    message = refused(*[a for a in (labels, counts) if name not in a], f"{name}=no.txt")
    assert "no.txt" in message


def test_scores_that_are_none(labels, counts):
    message = refused(labels, "scores=counts.txt")
    assert "'counts.txt' is not a scores file of dials.cnn_screen" in message


def test_spot_finding_that_cannot_work(images, labels):
    message = refused(
        images, labels, "model=None", *FINDING, "spotfinder.lookup.mask=no.pickle", ONE
    )
    assert "failed on every image" in message
    assert "no.pickle" in message


def test_reflections_of_other_images(images, labels, write_cxidb76):
    find_spots([images, *FINDING[1:], "nproc=1"])
    few = ExperimentListFactory.from_json_file(images)[:1]
    few.as_file("few.expt")
    Path("labels.txt").write_text("run1.h5 [1] HIT")
    message = refused("few.expt", labels, "model=None", "reflections=strong.refl")
    assert "'strong.refl' has spots of other images" in message


def test_two_outputs_of_one_name(labels, counts):
    message = refused(labels, counts, "output.html=x", "output.results=x")
    assert "is the name of two outputs" in message
