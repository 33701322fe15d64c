"""The compiler takes the kernels as they are; the interpreter alone would not tell.

It interprets what can't be compiled, and runs right what is compiled to something else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PROGRAM = Path(__file__).with_name("compile_kernels.py")


def compiled(*arguments: str) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("what", "dtype", "trusted"),
    [
        ("default", "uint16", False),
        ("default", "float32", True),
        ("ke2018", "uint16", False),
        ("ke2018", "int32", True),
        ("raw", "uint16", False),
        ("raw", "int32", False),
    ],
)
def test_kernels_compile(what, dtype, trusted):
    found = compiled(what, dtype, *["--trusted"] * trusted)
    for name, kernel in found.items():
        # One for all frames of this type: no argument made a constant of itself.
        assert len(kernel["kernels"]) == 1, name
        # Nothing is spilled.
        assert kernel["kernels"][0]["stack"] == 0, name
    # Values that go from one turn of a loop to the next. One that is missing was taken
    # for a constant: the compiler does, where two start as one tensor and one of them
    # is given the other's value.
    name, carried = {
        "default": ("flag_kernel", 10),
        "ke2018": ("lcn_kernel", 20),
        "raw": ("lz4_kernel", 3),
    }[what]
    assert found[name]["kernels"][0]["carried"] == carried


def test_one_compilation_serves_all_detectors():
    """Sizes, and batches of one, change nothing."""
    for what in ("default", "raw"):
        found = compiled(what, "uint16", "--shapes", "16x16", "40x700", "1920x1920")
        assert {len(kernel["kernels"]) for kernel in found.values()} == {1}
