from __future__ import annotations

import subprocess
import sys

import pytest

# A round trip through the FFT, of which two threads of one number each do one half.
SCRIPT = """
import {first}
import {second}
import torch
from dials_cnn_screen.threads import use_threads
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
