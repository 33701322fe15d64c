"""run1/data.h5 and run2/data.h5, as beamlines have them, through all programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line import (
    cnn_evaluate,
    cnn_explain,
    cnn_screen,
    cnn_stills_process,
    cnn_train,
)
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.labels.orders import uncertain_order
from dials_cnn_screen.viewer.selection import read_scores

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

IMAGES = ["run1/data.h5", "run2/data.h5"]
LEVELS = {"run1": [250, 50, 300, 20, 120, 260], "run2": [30, 270, 60, 150, 10, 280]}
LABELS = "".join(
    f"{folder}/data.h5 [{i}] {'HIT' if level > 200 else 'MISS'}\n"
    for folder, levels in LEVELS.items()
    for i, level in enumerate(levels, start=1)
)


@pytest.fixture
def model(write_levels, level_model):
    """Write the images and their labels; the model by which the level is known."""
    for folder, levels in LEVELS.items():
        Path(folder).mkdir()
        write_levels(f"{folder}/data.h5", levels)
    Path("labels.txt").write_text(LABELS)
    return f"model={level_model}"


@pytest.fixture
def scores(model):
    """cnn_screen.json of the images."""
    cnn_screen.run([*IMAGES, model, "mp.nproc=1"])
    return "cnn_screen.json"


def read(name):
    return json.loads(Path(name).read_text())


def test_screen(scores):
    images = read(scores)["images"]
    assert [(image["file"], image["frame"]) for image in images] == [
        (f"{folder}/data.h5", i) for folder in LEVELS for i in range(1, 7)
    ]
    assert [image["kept"] for image in images] == [
        level > 99 for levels in LEVELS.values() for level in levels
    ]
    assert all(Path(image["path"]).is_absolute() for image in images)
    assert "run2/data.h5 [2]" in Path("cnn_screen.html").read_text()


@pytest.mark.parametrize("images", [[], IMAGES])
def test_evaluate(scores, images):
    cnn_evaluate.run([*images, "annotation=labels.txt", f"scores={scores}"])
    # The two of levels 120 and 150 are kept and no hits.
    assert read("cnn_evaluate.json")["cnn"]["confusion_counts"] == [[5, 0], [2, 5]]


def test_evaluate_by_a_model(model):
    cnn_evaluate.run([*IMAGES, "annotation=labels.txt", model, "mp.nproc=1"])
    assert read("cnn_evaluate.json")["cnn"]["confusion_counts"] == [[5, 0], [2, 5]]


def test_calibration(scores, model):
    own = ["calibration.annotation=labels.txt", f"calibration.scores={scores}"]
    options = ["max_hit_loss=0.2", "output.scores=again.json", "mp.nproc=1"]
    cnn_screen.run([*IMAGES, model, *own, *options])
    decision = read("again.json")["decision"]
    assert decision["calibration_hits"] == 5
    hits = [i["p_keep"] for i in read(scores)["images"] if i["class"] == "Hit"]
    assert decision["threshold"] == min(hits)


def test_annotate(scores):
    stills = list_stills(ExperimentListFactory.from_filenames(IMAGES))
    names = [still.name for still in stills]
    results = read_scores(scores, names)
    order = uncertain_order([result.p_keep for result in results])
    # P(Hit) + P(Maybe) is nearest to 0.5 at level 120.
    assert str(names[order[0]]).endswith("run1/data.h5 [5]")
    with LabelFile("labels.txt", names) as labels:
        assert sum(labels.counts().values()) == 12
    assert Path("labels.txt").read_text() == LABELS


def test_train(model):
    schedule = ["training.epochs=1", "training.batches=1", "mp.nproc=1"]
    start = model.replace("model=", "start_from=")
    cnn_train.run([*IMAGES, "annotation=labels.txt", start, *schedule])
    splits = read("cnn_train.json")["splits"]
    assert sum(n for split in splits.values() for n in split.values()) == 12


def test_explain(model):
    pytest.importorskip("sklearn")
    cnn_explain.run([*IMAGES, "annotation=labels.txt", model, "image=7", "mp.nproc=1"])
    images = read("cnn_explain.json")["images"]
    assert images[7]["file"] == "run2/data.h5"
    assert [image["label"] for image in images].count("Hit") == 5


def test_veto(model):
    cnn_stills_process.run([*IMAGES, f"cnn_screen.{model}", "dispatch.index=False"])
    images = read("cnn_screen.json")["images"]
    assert len({(image["file"], image["frame"]) for image in images}) == 12
    assert sum(image["kept"] for image in images) == 7


def test_a_label_without_its_folder_is_refused(model):
    Path("labels.txt").write_text("data.h5 [1] HIT\n")
    with pytest.raises(
        Sorry, match=r"could be an image of 2 files, .* write the folder"
    ):
        cnn_evaluate.run([*IMAGES, "annotation=labels.txt", model])
