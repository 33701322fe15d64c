"""Without a folder for compiled code: as a service account, or in a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dials_cnn_screen

NOBODY = 65534
CODE = """
import numpy as np
from dials_cnn_screen.models import load_model
data = np.random.default_rng(0).poisson(5, (200, 200))
print(load_model("default").predict(data).label.title)
"""
SCREEN = "from dials_cnn_screen.command_line.cnn_screen import run; run()"


@pytest.fixture
def run_as_nobody(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """The function run_as_nobody(code, *args): with neither a home nor a cache."""
    if (
        not sys.platform.startswith("linux")
        or os.getuid() != 0
        or not shutil.which("setpriv")
    ):
        pytest.skip("only root can become somebody without a home")
    checkout = Path(dials_cnn_screen.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(checkout, tmp_path / "site" / "dials_cnn_screen", ignore=ignore)
    for name in ("command_line", "phil", "format_classes"):
        if not (checkout / name).exists():  # beside the package in a checkout
            inside = tmp_path / "site" / "dials_cnn_screen" / name
            shutil.copytree(checkout.parent / name, inside, ignore=ignore)
    for folder in (tmp_path, *tmp_path.parents):
        mode = folder.stat().st_mode
        if mode & 0o055 != 0o055:  # pytest's own, for root alone
            folder.chmod(mode | 0o055)
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o777)
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "PYTHONPATH": str(tmp_path / "site"),
    }
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def run_as_nobody(code: str, *args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*become, sys.executable, "-c", code, *args],
            env=environment,
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run_as_nobody


def test_without_a_folder_for_compiled_code(run_as_nobody):
    done = run_as_nobody(CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Miss\n"
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1


def test_a_program_without_a_home(
    run_as_nobody, installed_formats, write_levels, tmp_path
):
    pytest.importorskip("dials")
    write_levels(tmp_path / "run1.h5", [50, 250])
    done = run_as_nobody(SCREEN, "../run1.h5", "mp.nproc=1")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert told.count("NUMBA_CACHE_DIR") == 1
    assert "atplotlib" not in told
    assert "Saved the report to cnn_screen.html" in told
