from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dials_cnn_screen.util import threads

# A round trip through the FFT, of which two threads of one number each do one half.
SCRIPT = """
import {first}
import {second}
import torch
from dials_cnn_screen.util.threads import use_threads
image = torch.rand(200, 240, generator=torch.Generator().manual_seed(1))
threads = use_threads(2)
again = torch.fft.irfft2(torch.fft.rfft2(image))
print(threads, again.allclose(image, atol=1e-5))
"""


def run(first: str, second: str) -> list[str]:
    script = SCRIPT.format(first=first, second=second)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", False),
        ("-h", False),
        ("-c -e 2 -a2", False),
        ("imported.expt --help", False),
        ("imported.expt annotation=labels.txt -v", True),
        ("--phil=labels.phil", True),
    ],
)
def test_torch_is_not_needed_for_the_help(arguments, expected):
    assert threads.needs_torch(arguments.split()) is expected


def test_torch_alone_has_the_threads_asked_for():
    assert run("torch", "numpy") == ["2", "True"]


@pytest.mark.parametrize("cctbx_first", [True, False])
def test_numbers_are_right_beside_cctbx(cctbx_first):
    pytest.importorskip("omptbx")
    modules = ("omptbx", "torch") if cctbx_first else ("torch", "omptbx")
    threads, right = run(*modules)
    assert right == "True"
    if not cctbx_first:
        assert threads == "2"


# New pages, in thousands, that twenty arrays of 80 MB take, one after another, each by
# another thread, as in reading ahead.
FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from dials_cnn_screen.util.threads import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with ThreadPoolExecutor(1) as other:
    for _ in range(20):
        other.submit(np.ones, 10_000_000).result()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 1000)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_freed_memory_is_kept():
    pages = {}
    for how in ("give_back", "keep"):
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, how],
            check=True,
            capture_output=True,
            text=True,
        )
        pages[how] = int(done.stdout)
    assert pages["keep"] < pages["give_back"] / 5


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(threads.ctypes, "CDLL")
    threads.keep_freed_memory()
