"""The real dials.image_viewer, labelled in by keys and clicks as a person would."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sysconfig

import pytest

pytest.importorskip("dials")

import h5py
import numpy as np
from dials.array_family import flex
from dxtbx.model import Crystal
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    read_results,
    write_results,
)
from dials_cnn_screen.viewer import install


def labels_in(path):
    """The labels in a file, a letter each: H, M for Maybe, x for Miss, - for none."""
    if not path.exists():
        return ""
    letters = {None: "-", Label.HIT: "H", Label.MAYBE: "M", Label.MISS: "x"}
    return "".join(letters[a.label] for a in read_annotations(path))


def test_a_day_of_labelling(desk, annotate, shots, tmp_path):
    path = tmp_path / "labels.txt"
    program = annotate("shots.h5", "annotation=labels.txt", "keys.undo=z")
    desk.focus(r"shots\.h5")
    desk.press("l", lambda: labels_in(path) == "x-----")
    desk.press("k", lambda: labels_in(path) == "xM----")
    # The viewer's other window has the focus; the tool hears all the same.
    desk.focus("Settings")
    desk.press("j", lambda: labels_in(path) == "xMH---")
    desk.press("z", lambda: labels_in(path) == "xM----")
    # A click on the first button, at the lower left, and back to clear it.
    desk.focus(r"shots\.h5")
    desk.click(60, 1080, lambda: labels_in(path) == "xMH---")
    desk.do("key", "p")
    desk.press("c", lambda: labels_in(path) == "xM----")
    # Another person is told.
    second = annotate("shots.h5", "annotation=labels.txt")
    assert second.wait(120) == 1
    said = (tmp_path / "program_1.txt").read_text()
    assert "'labels.txt' is in use by " in said
    assert f"process {program.pid}" in said
    # Nothing is lost with the power.
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert labels_in(path) == "xM----"
    notes = json.loads((tmp_path / "labels.txt.json").read_text())
    assert notes["view"]["zoom"] == 1
    assert notes["view"]["beam"] == pytest.approx([0.5, 0.85], abs=0.01)

    program = annotate("shots.h5", "annotation=labels.txt")
    desk.focus(r"shots\.h5")
    desk.press("l", lambda: labels_in(path) == "xMx---")
    assert desk.close(program) == 0
    said = (tmp_path / "program_2.txt").read_text()
    assert "Traceback" not in said
    assert re.search(r"Time to display an image: \d\.\d\d s \(median of 2\)", said)
    assert "labels.txt: 2 of 6 images labelled (0 Hit, 1 Maybe, 1 Miss), 4 left" in said
    assert "labels.txt: 3 of 6 images labelled (0 Hit, 1 Maybe, 2 Miss), 3 left" in said
    notes = json.loads((tmp_path / "labels.txt.json").read_text())
    assert notes["open"] is None


@pytest.fixture
def crystals(tmp_path, write_cxidb76, installed_formats):
    """Experiments with crystals; the first of six shots is without beam.

    With four reflections on each of the first two, of which one is near the beam.
    """
    images = np.random.default_rng(0).poisson(40, (6, 1000, 1000))
    images[0] = np.random.default_rng(1).poisson(0.2, (1000, 1000))
    write_cxidb76(
        tmp_path / "shots.h5",
        images.astype(np.int32),
        kind="Rayonix",
        BEAM_CENTER_X=500 * 0.0886,
        BEAM_CENTER_Y=500 * 0.0886,
    )
    experiments = ExperimentListFactory.from_filenames([str(tmp_path / "shots.h5")])
    for experiment in experiments:
        experiment.crystal = Crystal(
            (50, 0, 0), (0, 60, 0), (0, 0, 70), space_group_symbol="P1"
        )
    experiments.as_file(str(tmp_path / "crystals.expt"))
    corners = [(500.0, 480.0), (20.0, 20.0), (20.0, 980.0), (980.0, 20.0)]
    table = flex.reflection_table()
    table["id"] = flex.int([0] * 4 + [1] * 4)
    table["panel"] = flex.size_t([0] * 8)
    table["xyzobs.px.value"] = flex.vec3_double([(x, y, 0.5) for x, y in corners * 2])
    table.as_file(str(tmp_path / "strong.refl"))
    return experiments


def write_scores(path, experiments):
    """Scores of these images: Maybe, P(Hit) + P(Maybe) 0.7."""
    results = [
        decide(still.name, make_prediction([0.3, 0.4, 0.3]), None, Decision())
        for still in list_stills(experiments)
    ]
    write_results(path, ScreeningResults(ModelSummary("m", "0"), Decision(), results))


def test_crystals_whole_frame_answers_and_haste(desk, annotate, crystals, tmp_path):
    path = tmp_path / "labels.txt"
    write_scores(tmp_path / "scores.json", crystals)
    program = annotate(
        "crystals.expt", "strong.refl", "circle_spots=always", "scores=scores.json"
    )
    desk.focus(r"shots\.h5")

    def says(text):
        return lambda: text in desk.read(program, tmp_path)

    assert desk.wait_for(says("1 of 4 circled spots in view"))
    desk.press("w", says("4 of 4 circled spots in view"))
    desk.press("w", says("1 of 4 circled spots in view"))
    desk.press("m", says("answer is shown once the image is labelled"))
    desk.press("j", lambda: labels_in(path) == "H-----")
    desk.press("Left", says("shots.h5 [1]"))
    desk.press("m", says("Model: Maybe, P(Hit) + P(Maybe) 0.70   |   1 of 4"))
    desk.press("Right", says("shots.h5 [2]"))
    assert "Model: " not in desk.read(program, tmp_path)
    desk.press("ctrl+z", lambda: labels_in(path) == "------")
    # Six keys in a second on a busy machine: the first is for the image that is shown,
    # the others are for images that nobody has seen.
    assert desk.wait_for(says("shots.h5 [1]"))
    (tmp_path / "busy").touch()
    desk.do("sleep", 1, "key", "--delay", 160, *"jkljkl")
    assert desk.wait_for(says("Miss refused (5 times): shots.h5 [2] was not displayed"))
    assert labels_in(path) == "H-----"
    # Time passes, and the key is pressed again. Held down it counts once.
    (tmp_path / "busy").unlink()
    desk.do("sleep", 1, "key", "--delay", 10, "k", "k", "k")
    assert desk.wait_for(says("Maybe refused (2 times): a key that is held down"))
    assert labels_in(path) == "HM----"
    desk.press("w", says("Hit: 1"))
    assert desk.close(program) == 0
    said = (tmp_path / "program_0.txt").read_text()
    assert "Traceback" not in said
    view = json.loads((tmp_path / "labels.txt.json").read_text())["view"]
    assert view["zoom"] == 1  # that of the whole frame is not kept
    assert view["levels"] == {"1 panels of 1000 x 1000": pytest.approx(48, rel=0.1)}


def test_train_and_reorder(desk, annotate, many_shots, tmp_path):
    path = tmp_path / "labels.txt"
    # One Miss too few, and they go from the last image to the first.
    path.write_text(many_shots.labels.replace("[2] MISS", "[2] None"))
    program = annotate("many.h5")
    desk.focus(r"many\.h5")

    def says(text):
        return lambda: text in desk.read(program, tmp_path)

    desk.press("r", says("and 10 Misses: label 1 more Misses"))
    assert desk.wait_for(says("many.h5 [2]"))
    desk.press("l", lambda: labels_in(path).startswith("Hx"))
    desk.press("t", says("many.h5 [21]"))
    desk.press("r", says("(r to stop)"))
    desk.press("r", says("Training stopped"))
    assert not list(tmp_path.glob(".labels_trained*"))
    desk.press("r", says("(r to stop)"))
    assert desk.wait_for(says("Re-ordered by the model trained on these labels"), 300)
    notes = json.loads((tmp_path / "labels.txt.json").read_text())
    assert notes["order"] == "uncertain"
    assert notes["scores"] == str(tmp_path / "labels_trained.json")
    results = read_results(notes["scores"]).images
    # The image that is shown stays; the least certain one of the others follows.
    doubt = {r.name.number: abs(r.p_keep - 0.5) for r in results[21:]}
    desk.press("j", says(f"many.h5 [{min(doubt, key=doubt.get)}]"))
    desk.press("p", says("many.h5 [21]"))
    desk.press("m", says(f"P(Hit) + P(Maybe) {results[20].p_keep:.2f}"))
    assert desk.close(program) == 0
    assert "Traceback" not in (tmp_path / "program_0.txt").read_text()


def test_first_image_that_cannot_be_read(desk, annotate, shots, tmp_path):
    (tmp_path / "broken.h5").write_bytes(shots.read_bytes())
    with h5py.File(tmp_path / "broken.h5", "r+") as file:
        data = file["data/chunk0/images"]
        del file["data/chunk0/images"]
        missing = [(str(tmp_path / "gone"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("data/chunk0/images", data.shape, "int32", external=missing)
    program = annotate("broken.h5", "shots.h5")
    # The viewer names the image that it could not read in the title of its window.
    desk.focus(r"\.h5")
    assert desk.wait_for(
        lambda: "the previous image is still shown" in desk.read(program, tmp_path)
    )
    assert desk.close(program) == 0
    assert "12 images labelled" in (tmp_path / "program_0.txt").read_text()


@pytest.fixture
def in_menu():
    """The tool in the menu of the stock viewer, which is as before when all is done."""
    folder = install.plugin_folder()
    if not os.access(folder, os.W_OK):
        pytest.skip(f"{folder} can't be written")
    target = folder / install.PLUGIN.name
    before = target.read_bytes() if target.exists() else None
    install.install(folder)
    yield
    if before is None:
        install.remove(folder)
    else:
        target.write_bytes(before)


def test_stock_viewer_and_its_menu(desk, start, in_menu, shots, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("shots.h5 [2] HIT\nshots.h5 [3] None\n")
    here = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    viewer = shutil.which("dials.image_viewer", path=here)
    if viewer is None:
        pytest.skip("dials.image_viewer is not on the PATH")
    program = start(viewer, "shots.h5")
    window = desk.focus(r"shots\.h5")

    def choose_tool():
        # The last but one of the Actions menu.
        desk.do("mousemove", "--window", window, 50, 12, "click", 1)
        desk.do("sleep", 1, "key", "Up", "Up", "Return", "sleep", 1)

    def holder():
        notes = tmp_path / "labels.txt.json"
        return notes.exists() and json.loads(notes.read_text())["open"]

    choose_tool()
    assert f"process {program.pid}" in desk.wait_for(holder, 10)
    # The first image, for which the stock viewer makes two objects.
    desk.press("k", lambda: labels_in(path) == "MH----")
    choose_tool()
    assert desk.wait_for(lambda: holder() is None, 10)
    desk.do("key", "k", "sleep", 1)  # nobody listens now
    assert labels_in(path) == "MH----"
    notes = json.loads((tmp_path / "labels.txt.json").read_text())
    assert notes["view"]["zoom"] == 1
    assert notes["view"]["beam"] == pytest.approx([0.5, 0.85], abs=0.01)
    assert program.poll() is None
