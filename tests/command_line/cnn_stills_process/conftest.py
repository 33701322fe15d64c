"""What the tests of dials.cnn_stills_process share: files, runs, and their scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = "from dials_cnn_screen.command_line.cnn_stills_process import run; run()"


@pytest.fixture
def options(level_model) -> list[str]:
    """Classify on one process, and index nothing."""
    return [f"cnn_screen.model={level_model}", "dispatch.index=False", "mp.nproc=1"]


@pytest.fixture
def good(write_levels) -> list[str]:
    """Two files of two images each; those of level 50 are no hits."""
    return [str(write_levels("a.h5", [250, 50])), str(write_levels("b.h5", [50, 250]))]


@pytest.fixture
def run_program() -> Callable[..., subprocess.CompletedProcess]:
    """The function run_program(*args, before): the program, after some Python code."""

    def run_program(*args: str, before: str = "") -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", f"{before}\n{PROGRAM}", *args],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run_program


@pytest.fixture
def scores() -> Callable[[], list[dict]]:
    """The entries of cnn_screen.json."""
    return lambda: json.loads(Path("cnn_screen.json").read_text())["images"]


@pytest.fixture
def names(scores) -> Callable[[], list[tuple[str, int]]]:
    """File and number of all images."""
    return lambda: [(image["file"], image["frame"]) for image in scores()]


@pytest.fixture
def errors(scores) -> Callable[[], dict[str, str]]:
    """What is said of the images that have no class; all of them are kept."""

    def errors() -> dict[str, str]:
        failed = [image for image in scores() if image["class"] is None]
        assert all(image["kept"] for image in failed)
        return {f"{i['file']} [{i['frame']}]": i["error"] for i in failed}

    return errors
