"""The process that compiles the kernels, and those that find them compiled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")

PROGRAM = """
import numpy as np
from dials_cnn_screen.images.frame import make_frame
from dials_cnn_screen.models.model_file import load_model

for name in ("default", "ke2018"):
    model = load_model(name)
    pipeline = model.entry.pipeline(model.network, model.preparation, "cpu")
    for seed, mean in enumerate((0.02, 2, 300)):
        data = np.random.default_rng(seed).poisson(mean, (700, 731)).astype("f4")
        data[340:343, 350:352] += 300
        mask = np.random.default_rng(9).random(data.shape) < 0.97
        found = pipeline.run(pipeline.prepare(make_frame(data, mask)))
        print(found.logits.tobytes().hex(), found.features.tobytes().hex())
"""


def test_first_run_gives_the_same_as_those_after_it(tmp_path):
    """To the last digit: sums are in one order, whichever way they were compiled."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert len(first.splitlines()) == 6
    assert second == first
