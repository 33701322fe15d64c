"""An eye from labels to what is kept, in dials.cnn_screen and dials.cnn_evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line import cnn_evaluate, cnn_screen

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
MODEL = "model=default"
# Brightness of the spots of each image, photons of the middle pixel: the expert sees
# the bright ones only, of some 30 standard deviations; the others have 7 to 10.
BRIGHTNESS = [150, 30] * 8
EXPERT = ["Hit", "Miss"] * 8


@pytest.fixture
def images(write_cxidb76) -> str:
    """Frames of noise with 30 spots of 3 x 3 pixels each, bright or weak by turns."""
    rng = np.random.default_rng(0)
    frames = rng.poisson(20, (len(BRIGHTNESS), 360, 360)).astype(np.int32)
    weights = np.outer([1, 2, 1], [1, 2, 1]).ravel() / 16
    for frame, brightness in zip(frames, BRIGHTNESS, strict=True):
        for slow, fast in rng.integers(20, 340, (30, 2)):
            spot = rng.multinomial(4 * brightness, weights).reshape(3, 3)
            frame[slow - 1 : slow + 2, fast - 1 : fast + 2] += spot
    centre = 180 * 0.0886
    beam = {"BEAM_CENTER_X": centre, "BEAM_CENTER_Y": centre}
    return str(write_cxidb76("run1.h5", frames, kind="Rayonix", **beam))


@pytest.fixture
def labels() -> str:
    lines = [f"run1.h5 [{i + 1}] {x.upper()}" for i, x in enumerate(EXPERT)]
    Path("labels.txt").write_text("\n".join(lines[:12]))
    Path("others.txt").write_text("\n".join(lines[12:]))
    return "labels.txt"


def read(path: str) -> dict:
    return json.loads(Path(path).read_text())


def classes(path: str) -> list[str]:
    return [image["class"] for image in read(path)["images"]]


@pytest.fixture
def screened(images) -> str:
    cnn_screen.run([images, MODEL, ONE, "output.scores=first.json"])
    assert classes("first.json") == ["Hit"] * 16
    return "eye.scores=first.json"


def test_from_labels_to_hits(images, labels, screened):
    fit = [f"eye.annotation={labels}", screened]
    cnn_screen.run([images, MODEL, ONE, *fit])
    assert classes("cnn_screen.json") == EXPERT
    found = read("cnn_screen.json")
    assert found["summary"]["kept"] == 8
    eye = found["decision"]["eye"]
    assert 6 < eye["visible_sigma"] < 25
    assert eye["source"] == "12 images labelled in labels.txt"
    log = " ".join(Path("dials.cnn_screen.log").read_text().split())
    assert "By 12 images labelled in labels.txt the expert sees spots of" in log
    told = "Hit, Maybe and Miss are by the number of spots that stand out by"
    assert told in log
    assert told in Path("cnn_screen.html").read_text()
    # The candidates are the same, so that another eye can count them.
    first = read("first.json")["images"]
    for image, before in zip(found["images"], first, strict=True):
        assert image["candidates"] == before["candidates"]


def test_eye_as_given(images):
    cnn_screen.run([images, MODEL, ONE, "eye.visible_sigma=14"])
    assert classes("cnn_screen.json") == EXPERT


def test_evaluation_leaves_out_what_the_eye_knows(images, labels, screened):
    fit = [f"eye.annotation={labels}", screened]
    both = ["annotation=labels.txt", "annotation=others.txt"]
    cnn_evaluate.run([*both, "scores=first.json", *fit])
    by_scores = read("cnn_evaluate.json")
    assert len(by_scores["images"]) == 4
    assert classes("cnn_evaluate.json") == EXPERT[12:]
    assert by_scores["eye"]["source"] == "12 images labelled in labels.txt"
    assert "Images that the eye was fitted to, left out: 12" in (
        Path("dials.cnn_evaluate.log").read_text()
    )
    cnn_evaluate.run([images, MODEL, ONE, *both, *fit])
    by_images = read("cnn_evaluate.json")
    assert (
        by_images["cnn"]["confusion_percent"] == (by_scores["cnn"]["confusion_percent"])
    )
    cnn_evaluate.run([*both, "scores=first.json"])
    assert read("cnn_evaluate.json")["eye"] is None
    assert len(classes("cnn_evaluate.json")) == 16
    cnn_screen.run([images, MODEL, ONE, "eye.visible_sigma=14", "output.scores=e.json"])
    with pytest.raises(Sorry, match=r"'e\.json' are by an eye .* of a run without eye"):
        cnn_evaluate.run([*both, "scores=e.json", *fit])
    with pytest.raises(Sorry, match="the eye was fitted to all of the labelled images"):
        cnn_evaluate.run(["annotation=labels.txt", "scores=first.json", *fit])


def test_evaluation_of_moved_images_leaves_out_what_the_eye_knows(
    images, labels, screened
):
    fit = [f"eye.annotation={labels}", screened]
    Path("archive").mkdir()
    moved = Path(images).rename(Path("archive") / Path(images).name)
    both = ["annotation=labels.txt", "annotation=others.txt"]
    cnn_evaluate.run([str(moved), MODEL, ONE, *both, *fit])
    assert classes("cnn_evaluate.json") == EXPERT[12:]


def test_images_of_another_file_of_the_same_name_are_evaluated(
    images, labels, screened
):
    # The file to which the eye was fitted is still there: this is another.
    Path("other").mkdir()
    other = shutil.copy(images, Path("other") / Path(images).name)
    fit = [f"eye.annotation={labels}", screened]
    cnn_evaluate.run([str(other), MODEL, ONE, "annotation=labels.txt", *fit])
    assert len(classes("cnn_evaluate.json")) == 12


def test_max_hit_loss_with_an_eye(images, labels, screened):
    fit = [images, MODEL, ONE, f"eye.annotation={labels}", screened]
    # Among the model's simulated hits the eye has its own.
    cnn_screen.run([*fit, "decision.max_hit_loss=0.01"])
    decision = read("cnn_screen.json")["decision"]
    assert decision["calibrated_on"].startswith("hits to this eye among 2231 simulated")
    assert decision["calibration_hits"] < 1280
    assert decision["threshold"] < 0.2
    assert [i["kept"] for i in read("cnn_screen.json")["images"]][::2] == [True] * 8
    scores = "calibration.scores=first.json"
    own = ["decision.max_hit_loss=0.4", "calibration.annotation=others.txt", scores]
    cnn_screen.run([*fit, *own])
    decision = read("cnn_screen.json")["decision"]
    assert decision["calibration_hits"] == 2
    assert decision["eye"] is not None


def test_an_eye_that_looks_at_a_part(images):
    look = [images, MODEL, ONE, "eye.visible_sigma=14"]
    cnn_screen.run([*look, "eye.region_of_interest=0,360,0,360"])
    assert classes("cnn_screen.json") == EXPERT
    region = [0, 60, 0, 60]
    cnn_screen.run([*look, "eye.region_of_interest=0,60,0,60"])
    found = read("cnn_screen.json")
    assert found["decision"]["eye"]["region_of_interest"] == region
    assert "at fast 0 to 59, slow 0 to 59" in Path("cnn_screen.html").read_text()
    for image in found["images"]:
        # Thirty spots on 36 times the area.
        assert image["class"] != "Hit"
        assert {len(row) for row in image["candidates"]} == {4}
    # The record of a run has the region as it was.
    cnn_screen.run([*look, "eye.region_of_interest=0,60,0,60", "resume=True"])
    assert "has 16 of 16 images; resuming" in Path("dials.cnn_screen.log").read_text()


def test_images_that_the_eye_cannot_see_are_kept(images):
    look = [images, MODEL, ONE, "eye.visible_sigma=14"]
    with pytest.raises(Sorry, match=r"none of the 16 images could be classified; .* r"):
        cnn_screen.run([*look, "eye.region_of_interest=360,400,0,60"])
    with pytest.raises(Sorry, match=r"region_of_interest=9,9,0,60 is not x0,x1,y0,y1"):
        cnn_screen.run([*look, "eye.region_of_interest=9,9,0,60"])
    with pytest.raises(Sorry, match="is where an eye looks, and there is none"):
        cnn_screen.run([images, MODEL, "eye.region_of_interest=0,60,0,60"])


def test_a_model_that_looks_for_no_spots(images, level_model, labels):
    blind = [images, f"model={level_model}", ONE, "eye.visible_sigma=12"]
    for program, more in ((cnn_screen, []), (cnn_evaluate, ["annotation=labels.txt"])):
        with pytest.raises(Sorry, match="level does not look for spots") as refusal:
            program.run([*blind, *more])
        assert "\n" not in str(refusal.value)
    with pytest.raises(Sorry, match=r"visible_sigma=4 is not 5\.5 or more"):
        cnn_screen.run([images, MODEL, ONE, "eye.visible_sigma=4"])
