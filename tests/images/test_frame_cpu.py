from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.images.frame_cpu import used_range


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32]
)
def test_range_of_the_used_pixels(dtype):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 200, (37, 53)).astype(dtype)
    mask = rng.random(data.shape) < 0.5
    data[5, 5:7], mask[5, 5:7] = (0, 250), False
    assert used_range(data, mask) == (data[mask].min(), data[mask].max())


def test_without_used_pixels():
    data = np.array([[5.0, -2.0]], np.float32)
    assert used_range(data, np.array([[True, True]])) == (-2.0, 5.0)
    assert used_range(data, np.zeros((1, 2), bool)) == (np.inf, -np.inf)
