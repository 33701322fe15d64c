"""cctbx.xfel.cnn_process on the cctbx.xfel that is there, without a database."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line import cnn_xfel_process as program

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

LEVELS = [250, 50, 150, 99, 101, 300]
KEPT = [0, 2, 4, 5]


@pytest.fixture
def frame_logging(monkeypatch):
    """The module of cctbx.xfel that logs to the database.

    Debian's lacks a compiled function, which only its radial averages call.
    """
    xfel = pytest.importorskip("xfel", reason="no cctbx.xfel")
    if not hasattr(xfel, "radial_average"):
        monkeypatch.setattr(xfel, "radial_average", None, raising=False)
    try:
        importlib.import_module("xfel.command_line.xfel_process")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no whole cctbx.xfel: {error}")
    return importlib.import_module("xfel.ui.db.frame_logging")


@pytest.fixture
def logged(frame_logging, monkeypatch):
    """What would go to the database: the name of each image, and its spots."""
    calls = []

    def log_frame(self, experiments, reflections, run, n_strong, timestamp, **_):
        calls.append((timestamp, n_strong))

    processor = frame_logging.DialsProcessorWithLogging
    monkeypatch.setattr(processor, "log_frame", log_frame)
    return calls


@pytest.fixture
def run(write_levels, level_model, monkeypatch):
    """The function run(*args): the program on six images."""
    images = str(write_levels("run1.h5", LEVELS))

    def run(*args):
        given = [images, f"cnn_screen.model={level_model}", "mp.nproc=1", *args]
        monkeypatch.setattr(sys, "argv", ["cctbx.xfel.cnn_process", *given])
        program.run()

    return run


def test_what_is_not_kept_is_logged_without_spots(run, logged):
    name = "output.strong_filename=%s_strong.refl"
    run("dispatch.index=False", "output.composite_output=False", name)
    assert [name for name, _ in logged] == [f"run1_{i:05d}" for i in range(6)]
    assert all(n == 0 for i, (_, n) in enumerate(logged) if i not in KEPT)
    found = [int(p.name.split("_")[1]) for p in sorted(Path().glob("*strong.refl"))]
    assert found == KEPT
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    assert [i for i, image in enumerate(images) if image["kept"]] == KEPT


@pytest.mark.usefixtures("frame_logging")
def test_the_gui_reads_the_parameters_from_the_file():
    ui = pytest.importorskip("xfel.ui")
    params = ui.load_phil_scope_from_dispatcher(program.__file__).extract()
    assert params.cnn_screen.decision.threshold == 0.5
    assert params.dispatch.pre_import is True
    assert params.radial_average.enable is False


def test_without_cctbx_xfel(monkeypatch):
    monkeypatch.setitem(sys.modules, "xfel.command_line", None)
    with pytest.raises(Sorry, match=r"no whole cctbx.xfel .*; dials.cnn_stills_proce"):
        program.run([])
