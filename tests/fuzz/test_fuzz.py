"""A sample of the damaged inputs; fuzz_run.py runs thousands of them by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dials")

# Enough for each kind of input a few times, in less than a minute. By hand.
N_CASES = 30


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and limits to memory")
@pytest.mark.usefixtures("installed_formats")
def test_damaged_inputs(tmp_path):
    program = Path(__file__).with_name("fuzz_run.py")
    command = [sys.executable, str(program), str(N_CASES), "--seed", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *table, last = done.stdout.splitlines()
    assert last == f"{N_CASES} cases, 0 with faults"
    # Headings, and a line for each kind of input.
    assert len(table) > 10
