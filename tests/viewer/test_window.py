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

from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
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
    path.write_text("shots.h5 [1] HIT\nshots.h5 [3] None\n")
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
    desk.press("k", lambda: labels_in(path) == "HM----")
    choose_tool()
    assert desk.wait_for(lambda: holder() is None, 10)
    desk.do("key", "k", "sleep", 1)  # nobody listens now
    assert labels_in(path) == "HM----"
    assert program.poll() is None
