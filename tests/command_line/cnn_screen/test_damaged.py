"""Files of which something makes no sense, and outputs that can't be finished."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.model import ExperimentList

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
OUTPUTS = ("hits.expt", "cnn_screen.json", "cnn_screen.html")
LEVELS = [250, 50, 150]


@pytest.fixture
def good(write_levels) -> str:
    return str(write_levels("good.h5", LEVELS))


def write_older() -> None:
    for name in OUTPUTS:
        Path(name).write_text("older")


def assert_older() -> None:
    assert {Path(name).read_text() for name in OUTPUTS} == {"older"}
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize("with_good", [True, False])
def test_numbers_that_make_no_sense_on_some_images(
    write_levels, good, model, column, with_good
):
    distance = [100, math.nan, 100, 0, 100]
    wavelength = [1.3, 1.3, 1.3, 1.3, -math.inf]
    write_levels("run1.h5", [250] * 5, distance=distance, wavelength=wavelength)
    run([good] * with_good + ["run1.h5", model, ONE, "html=None"])
    classes, errors = column("class"), column("error")
    assert classes[-5:] == ["Hit", None, "Hit", None, None]
    assert len(classes) == 5 + 3 * with_good
    assert None not in classes[:-5]
    assert "the distance of image 1 is nan mm" in errors[-4]
    assert "the distance of image 3 is 0.0 mm" in errors[-2]
    assert "the wavelength of image 4 is -inf A" in errors[-1]
    assert all(column("kept")[-5:])
    # With an image without models no program of DIALS could open the list.
    hits = ExperimentList.from_file("hits.expt", check_format=True)
    assert len(hits) == 2 + 2 * with_good
    log = Path("dials.cnn_screen.log").read_text()
    assert "3 images have no detector or beam model and can't be in hits.expt" in log
    assert f"Saved {len(hits)} of {len(classes)} images to hits.expt" in log


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("PIXEL_SIZE", 0.0, "80 x 80 pixels of 0 x 0 mm; check the geometry"),
        ("PIXEL_SIZE", -0.1, "pixels of -0.1 x -0.1 mm"),
        ("BEAM_CENTER_X", 5000.0, "the beam misses the detector by"),
        ("BEAM_CENTER_X", -1e300, "the beam misses the detector by"),
    ],
)
def test_geometry_that_makes_no_sense(
    write_levels, good, model, results, name, value, error
):
    write_levels("bad.h5", [250, 50], **{name: value})
    run([good, "bad.h5", model, ONE])
    images = results()["images"]
    classes = [image["class"] for image in images if image["file"] == "good.h5"]
    assert classes == ["Hit", "Miss", "Maybe"]
    failed = [image for image in images if image["file"] == "bad.h5"]
    assert len(failed) == 2
    for image in failed:
        assert (image["class"], image["kept"]) == (None, True)
        assert error in image["error"]
    assert "NaN" not in Path("cnn_screen.json").read_text()
    assert error in Path("cnn_screen.html").read_text()


def test_beam_far_off_is_warned_of_once(write_levels, good, model, column):
    n, edge = 30, 80 * 0.0886  # mm
    write_levels("off.h5", [250] * n, BEAM_CENTER_X=3.5 * edge)
    run([good, "off.h5", model, ONE, "html=None"])
    assert None not in column("class")
    log = Path("dials.cnn_screen.log").read_text()
    (line,) = [line for line in log.splitlines() if "beam misses" in line]
    assert "The beam misses the detector by 2.5 times its size (" in line
    assert "off.h5" in line


def test_what_is_too_large_is_said_before_it_is_read(write_levels, good, model, column):
    edge = 30_000
    path = write_levels("huge.h5", [0], SIZE1=edge, SIZE2=edge)
    with h5py.File(path, "a") as file:
        chunk = file["data/chunk0"]
        del chunk["images"], file["metadata/ACTIVE_AREAS"]
        chunk.create_dataset("images", (1, edge, edge), "i4", chunks=(1, 64, 64))
    run([good, "huge.h5", model, ONE, "html=None"])
    assert column("class") == ["Hit", "Miss", "Maybe", None]
    assert "said to have 900000000 pixels (30000 x 30000 on the" in column("error")[3]


def test_a_file_that_claims_too_many_images(good, model, column):
    with h5py.File("long.h5", "w") as file:
        file.create_dataset("data", (2 * 10**6, 9, 9), "i4", chunks=(1, 9, 9))
    message = "long.h5 can't be read: /data claims 2000000 images, more than 1000000"
    with pytest.raises(Sorry, match=message):
        run(["long.h5", model, ONE])
    with pytest.raises(
        Sorry, match=r"not screened, since they can't be read: long\.h5"
    ):
        run([good, "long.h5", model, ONE, "html=None"])
    assert column("class") == ["Hit", "Miss", "Maybe", None]


def test_an_error_of_any_kind_is_one_line(start):
    with h5py.File("bad.h5", "w") as file:  # NXmx without anything: a KeyError or so
        file["entry/definition"] = "NXmx"
        file["entry"].attrs["NX_class"] = "NXentry"
    _, errors = start("bad.h5", ONE).communicate(timeout=120)
    assert errors.startswith("Sorry: bad.h5 can't be read: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bad.phil"], "bad.phil: "),
        (["output.html=" + 400 * "x"], "File name too long"),
        (["x" * 5000], "there is no file 'x+"),
        (["decision.threshold=" + 5000 * "1"], "decision.threshold"),
    ],
    ids=["phil", "name", "file", "number"],
)
def test_arguments_that_can_not_be(good, model, args, message):
    Path("bad.phil").write_text("decision { threshold = 0.5\n")
    with pytest.raises(Sorry, match=message) as problem:
        run([good, model, ONE, *args])
    assert "\n" not in str(problem.value)
    assert len(str(problem.value)) <= 1000


def test_upstream_parser_ends_with_one_line_too(good, model, monkeypatch):
    from dials.util.options import ArgumentParser

    def parse_args(self, *_args, **_kwargs):  # as DIALS 3.30 does
        self.error(message="Invalid phil parameter: threshold=9\nis too large")

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_args)
    with pytest.raises(Sorry, match=r"^Invalid phil parameter: .* is too large$"):
        run([good, model, ONE])


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt(), KeyError()])
def test_an_error_in_the_last_output_leaves_all_older_ones(
    good, model, monkeypatch, error
):
    write_older()

    def fail(*_args):
        raise error

    monkeypatch.setattr("dials_cnn_screen.outputs.run.write_report", fail)
    with pytest.raises((Sorry, SystemExit, KeyError)):
        run([good, model, ONE])
    assert_older()
    assert "Saved" not in Path("dials.cnn_screen.log").read_text()


KILLED = """
import os
from dials_cnn_screen.outputs import run
def write_report(*args):
    os._exit(9)
run.write_report = write_report
"""


def test_a_kill_in_the_last_output_leaves_all_older_ones(good, model, start):
    write_older()
    program = start(good, model, ONE, before=KILLED)
    program.communicate(timeout=120)
    assert program.returncode == 9
    assert {Path(name).read_text() for name in OUTPUTS} == {"older"}
    # What it left is gone with the next run.
    assert len(list(Path().glob(".*"))) == 2
    run([good, model, ONE])
    assert not list(Path().glob(".*"))
    assert json.loads(Path("cnn_screen.json").read_text())["images"]


def test_a_picture_that_can_not_be_made(good, model, monkeypatch, column):
    def fail(*_args, **_others):
        raise KeyError("gone")

    monkeypatch.setattr("dials_cnn_screen.outputs.report.make_picture", fail)
    run([good, model, ONE])
    assert column("class") == ["Hit", "Miss", "Maybe"]
    assert Path("cnn_screen.html").read_text().rstrip().endswith("</html>")
    log = Path("dials.cnn_screen.log").read_text()
    assert "no picture of good.h5 [1] in the report: KeyError: 'gone'" in log


@pytest.mark.parametrize("name", ["hits", "hits.1e308"])
def test_experiments_of_any_name(good, model, name):
    run([good, model, ONE, "html=None", f"output.experiments={name}"])
    assert len(ExperimentList.from_file(name, check_format=False)) == 2


def test_experiments_to_a_device(good, model):
    run([good, model, ONE, "html=None", "output.experiments=/dev/null"])
    assert not Path("/dev/null").is_file()


def test_infinite_numbers_in_the_image(write_levels, good, model, column):
    write_levels("run1.h5", [250])
    with h5py.File("run1.h5", "a") as file:
        file["data/chunk0/images"][0] = np.iinfo(np.int32).max
    run([good, "run1.h5", model, ONE, "html=None"])
    assert column("class") == ["Hit", "Miss", "Maybe", None]


def test_memory_that_is_short(good, model):
    code = (
        "import resource\n"
        "from dials_cnn_screen.outputs import run as outputs\n"
        "def write_report(*args):\n"
        "    raise MemoryError('Unable to allocate\\n9 GiB')\n"
        "outputs.write_report = write_report\n"
        "from dials_cnn_screen.command_line.cnn_screen import run\n"
        "run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, good, model, ONE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (
        done.stderr == "Sorry: there is not enough memory; Unable to allocate 9 GiB\n"
    )
