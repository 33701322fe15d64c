from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dials_cnn_screen.studies.commands import Cost, run_command

WORK = """
import os, time
assert os.environ["OMP_NUM_THREADS"] == "1"
block = bytearray(60_000_000)
start = time.process_time()
while time.process_time() - start < 0.3:
    pass
open("written", "w").write("yes")
"""


def test_what_a_command_costs(tmp_path):
    cost = run_command([sys.executable, "-c", WORK], tmp_path)
    assert Path(tmp_path, "written").read_text() == "yes"
    assert 0.3 <= cost.processor < 20
    assert cost.clock >= 0.3
    assert 60 < cost.memory < 1000


def test_costs_are_added():
    assert Cost(1, 2, 30) + Cost(4, 5, 6) == Cost(5, 7, 30)


def test_a_command_that_fails():
    with pytest.raises(ValueError, match=r"sys\.exit\('no luck'\) failed: no luck"):
        run_command([sys.executable, "-c", "import sys; sys.exit('no luck')"])
