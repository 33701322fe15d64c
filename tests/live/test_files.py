"""Files that appear and grow while dials.cnn_live watches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.model import ExperimentList

pytestmark = pytest.mark.usefixtures("installed_formats")

LEVELS = [50, 150, 250, 50]
CLASSES = ["Miss", "Maybe", "Hit", "Miss"]
# The beam of write_nxmx is at a corner, so that a model sees a quarter of its images.
NXMX_LEVELS = [200, 600, 1000, 200]


def classes(scores):
    return [image["class"] for image in scores.values()]


@pytest.fixture
def later():
    """The function later(function, *args): call it on another thread, to its end."""
    threads = []

    def later(function, *args):
        thread = threading.Thread(target=function, args=args)
        thread.start()
        threads.append(thread)

    yield later
    for thread in threads:
        thread.join()


def test_a_folder_of_whole_files(live_run, write_levels):
    Path("run").mkdir()
    write_levels("run/a.h5", LEVELS)
    write_levels("run/b.h5", [250])
    Path("run/notes.txt").write_text("some words")
    scores = live_run("run", "idle_time=1")
    assert list(scores) == [("a.h5", i) for i in (1, 2, 3, 4)] + [("b.h5", 1)]
    assert classes(scores) == [*CLASSES, "Hit"]
    hits = ExperimentList.from_file("hits.expt", check_format=False)
    names = [(Path(e.imageset.get_path(0)).name, e.imageset.indices()[0]) for e in hits]
    assert names == [("a.h5", 1), ("a.h5", 2), ("b.h5", 0)]
    status = json.loads(Path("cnn_live.json").read_text())
    assert status["state"] == "ended"
    assert status["images"] == {
        "done": 5,
        "classified": 5,
        "hit": 2,
        "maybe": 1,
        "miss": 2,
        "kept": 3,
        "not_classified": 0,
        "queue_full": 0,
        "repeated": 0,
    }
    page = Path("cnn_live.html").read_text()
    assert "Hit rate 40.0%: 2 of 5 classified images" in page
    assert 'http-equiv="refresh"' not in page
    assert "Latest hits" in page


def test_as_dials_cnn_screen(live_run, level_model, write_levels):
    from dials_cnn_screen.command_line.cnn_screen import run

    Path("run").mkdir()
    write_levels("run/a.h5", LEVELS)
    scores = live_run("run", "idle_time=1")
    live_lines = Path("cnn_screen.jsonl").read_text().splitlines()
    live_hits = ExperimentList.from_file("hits.expt", check_format=False)
    run(["run/a.h5", f"model={level_model}", "mp.nproc=1"])
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    assert list(scores.values()) == images
    hits = ExperimentList.from_file("hits.expt", check_format=False)
    assert [e.detector for e in hits] == [e.detector for e in live_hits]
    assert [e.imageset.indices()[0] for e in hits] == [1, 2]
    assert len(live_lines) == 5


def test_files_that_come_later_and_piece_by_piece(live_run, write_levels, later):
    Path("run").mkdir()
    write_levels("whole.h5", LEVELS)
    content = Path("whole.h5").read_bytes()

    def write():
        time.sleep(0.5)
        with open("run/c.h5", "wb") as file:
            for i in range(0, len(content), len(content) // 4):
                file.write(content[i : i + len(content) // 4])
                file.flush()
                time.sleep(0.4)

    later(write)
    scores = live_run("run", "idle_time=3")
    assert list(scores) == [("c.h5", i) for i in (1, 2, 3, 4)]
    assert classes(scores) == CLASSES


def test_what_never_can_be_read_is_kept_and_named(live_run, write_levels):
    Path("run").mkdir()
    write_levels("run/a.h5", LEVELS)
    content = Path("run/a.h5").read_bytes()
    Path("run/b.h5").write_bytes(content[: len(content) // 2])
    scores = live_run("run", "idle_time=2")
    assert classes(scores) == [*CLASSES, None]
    lost = scores["b.h5", 1]
    assert "the file can't be read" in lost["error"]
    assert lost["kept"]


GROW = """
import sys, time
import h5py, numpy as np
path, how = sys.argv[1:]
with h5py.File(path, "r+", libver="latest") as file:
    data = file["entry/data/data"]
    if how == "swmr":
        file.swmr_mode = True
    for level in (200, 600, 1000, 200, 1000):
        time.sleep(0.6)
        data.resize(len(data) + 1, axis=0)
        data[-1] = level + np.indices((80, 80)).sum(axis=0) % 2
        data.flush() if how == "swmr" else file.flush()
    time.sleep(1)
"""


def start_nxmx(path, write_nxmx):
    """A file as NXmx, of one image of level 600, that can grow."""
    image = 600 + np.indices((80, 80)).sum(axis=0) % 2
    storage = {"chunks": (1, 80, 80), "maxshape": (None, 80, 80)}
    return write_nxmx(path, image[None].astype(np.int32), **storage)


@pytest.mark.parametrize("how", ["swmr", "flushed"])
def test_a_file_that_grows(level_model, in_tmp_path, write_nxmx, how):
    start_nxmx("early.h5", write_nxmx)
    # SWMR needs the newest form of the file.
    with (
        h5py.File("early.h5") as old,
        h5py.File("run.h5", "w", libver="latest") as new,
    ):
        old.copy("entry", new)
    Path("grow.py").write_text(GROW)
    writer = subprocess.Popen([sys.executable, "grow.py", "run.h5", how])
    code = "import sys\nfrom dials_cnn_screen.command_line import cnn_live\n"
    code += "from dials_cnn_screen.live import files\nfiles.POLL = 0.2\n"
    code += "files.SETTLED = 2.0\ncnn_live.run(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "run.h5", f"model={level_model}", "idle_time=4"],
        env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert writer.wait() == 0
    assert done.returncode == 0, done.stderr
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    assert [image["frame"] for image in images] == [1, 2, 3, 4, 5, 6]
    assert [image["class"] for image in images] == ["Maybe", *CLASSES, "Hit"]


def test_a_master_whose_data_come_later(live_run, write_nxmx, later):
    Path("run").mkdir()
    images = np.array(NXMX_LEVELS)[:, None, None] + np.indices((80, 80)).sum(axis=0) % 2
    link = h5py.ExternalLink("x_data_000001.h5", "/data")
    write_nxmx("run/x_master.h5", images, data=link)
    with h5py.File("data.h5", "w") as file:
        file["data"] = images.astype(np.int32)

    def write():
        time.sleep(1.5)
        shutil.copy("data.h5", "run/x_data_000001.h5")

    later(write)
    scores = live_run("run", "idle_time=4")
    assert list(scores) == [("x_master.h5", i) for i in (1, 2, 3, 4)]
    assert classes(scores) == CLASSES


def test_images_that_are_not_there_yet_are_tried_again(live_run, write_nxmx, later):
    """A file of its final size from the start, as some detectors write it."""
    images = np.array(NXMX_LEVELS)[:, None, None] + np.indices((80, 80)).sum(axis=0) % 2
    Path("run").mkdir()
    link = h5py.ExternalLink("x_data_000001.h5", "/data")
    write_nxmx("run/x_master.h5", images, data=link)
    with h5py.File("run/x_data_000001.h5", "w") as file:
        file.create_dataset("data", (4, 80, 80), np.int32, chunks=(1, 80, 80))

    def write():
        for i in range(4):
            time.sleep(0.7)
            # Another file in its place: what is open shows the old one.
            shutil.copy("run/x_data_000001.h5", "new.h5")
            with h5py.File("new.h5", "r+") as file:
                file["data"][i] = images[i]
            Path("new.h5").rename("run/x_data_000001.h5")

    later(write)
    scores = live_run("run", "idle_time=3")
    assert sorted(scores) == [("x_master.h5", i) for i in (1, 2, 3, 4)]
    assert [scores["x_master.h5", i]["class"] for i in (1, 2, 3, 4)] == CLASSES
    assert len(Path("cnn_screen.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_its_outputs(
    level_model, in_tmp_path, write_levels, number
):
    write_levels("a.h5", LEVELS)
    # Of a shell's background job, such as some CI's, Ctrl-C is ignored.
    code = "import signal, sys\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from dials_cnn_screen.command_line.cnn_live import run\nrun(sys.argv[1:])"
    program = [sys.executable, "-c", code, "a.h5", f"model={level_model}"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    record = Path("cnn_screen.jsonl")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if record.exists() and len(record.read_text().splitlines()) == 5:
            break
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"Ended by {number.name}" in output
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    assert [image["class"] for image in images] == CLASSES
    assert json.loads(Path("cnn_live.json").read_text())["state"] == "ended"
    assert len(ExperimentList.from_file("hits.expt", check_format=False)) == 2


def test_resume_classifies_only_what_is_new(live_run, write_levels):
    Path("run").mkdir()
    write_levels("run/a.h5", LEVELS)
    live_run("run", "idle_time=1")
    first = Path("cnn_screen.jsonl").read_text()
    write_levels("run/b.h5", [250])
    scores = live_run("run", "idle_time=1", "resume=True")
    assert classes(scores) == [*CLASSES, "Hit"]
    lines = Path("cnn_screen.jsonl").read_text()
    assert lines.startswith(first)
    assert len(lines.splitlines()) == 6
    status = json.loads(Path("cnn_live.json").read_text())
    assert status["images"]["done"] == 5
    # Without resume the old record is kept: a stream's images do not come again.
    live_run("run", "idle_time=1")
    assert Path("cnn_screen.unfinished.jsonl").read_text() == lines


def test_resume_is_refused_for_another_source(live_run, write_levels):
    for folder in ("run", "other"):
        Path(folder).mkdir()
        write_levels(f"{folder}/a.h5", LEVELS)
    live_run("run", "idle_time=1")
    with pytest.raises(Sorry, match=r"source .*run, now .*other"):
        live_run("other", "idle_time=1", "resume=True")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["output.html=None"], "no source"),
        (["a", "b"], "'a' and 'b' are both sources"),
        (["no/such/folder/run.h5"], "there is no folder for 'no/such/folder/run.h5'"),
    ],
)
def test_what_is_wrong_with_the_source(live_run, args, message):
    with pytest.raises(Sorry, match=message):
        live_run(*args)


def test_a_source_needs_no_parameters(in_tmp_path):
    from dials_cnn_screen.command_line.cnn_live import run

    with pytest.raises(Sorry, match=r"there is no folder for 'no/run\.h5'"):
        run(["no/run.h5"])
    with pytest.raises(SystemExit) as ended:  # with the help
        run([])
    assert ended.value.code == 0


def test_a_folder_without_images(live_run):
    Path("run").mkdir()
    with pytest.raises(Sorry, match="no image came from run"):
        live_run("run", "idle_time=0.5")
    assert json.loads(Path("cnn_live.json").read_text())["images"]["done"] == 0
