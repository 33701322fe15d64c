from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


@pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or os.getuid() != 0
    or not shutil.which("setpriv"),
    reason="only root can become somebody without a home",
)
def test_without_a_folder_for_compiled_code(tmp_path):
    # As a service account, or in a container: neither the package's folder nor a home.
    package = tmp_path / "site" / "dials_cnn_screen"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dials_cnn_screen.__file__).parent, package, ignore=ignore)
    for folder in (tmp_path, *tmp_path.parents):
        mode = folder.stat().st_mode
        if mode & 0o055 != 0o055:  # pytest's own, for root alone
            folder.chmod(mode | 0o055)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "PYTHONPATH": str(tmp_path / "site"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [*become, sys.executable, "-c", CODE],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Miss\n"
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
