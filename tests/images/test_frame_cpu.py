from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.images.frame_cpu import fill_frame, used_range


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


def fill(raw, low, high):
    """Data, mask and range of an image without a static mask."""
    data, mask = np.empty(raw.shape, np.float32), np.empty(raw.shape, bool)
    low, high = raw.dtype.type(low), raw.dtype.type(high)
    found = fill_frame(raw, np.ones(raw.shape, bool), low, high, data, mask)
    return data, mask, found


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_overloads_are_in_the_range(dtype):
    raw = np.full((30, 40), 9, dtype)
    raw[5:8, 5:8], raw[20, 20] = 60000, 60000
    data, mask, found = fill(raw, 0, 1000)
    assert found == (9, 1991)
    assert np.count_nonzero(~mask) == 1
    assert not mask[20, 20]
    assert data[20, 20] == 60000
    assert (data[5, 5], data[6, 6]) == (1000, 1991)


def test_what_is_not_finite_is_no_overload():
    raw = np.full((30, 40), 9.0)
    raw[5:8, 5:8], raw[5:8, 20:23], raw[20:23, 5:8] = np.inf, np.nan, 1e300
    _, mask, found = fill(raw, 0, 1000)
    np.testing.assert_array_equal(mask, raw == 9)
    assert found == (9, 9)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (0, 0), (9, 9)])
def test_no_overloads_where_the_range_is_none(low, high):
    raw = np.full((30, 40), 9, np.int32)
    raw[5:8, 5:8] = 60000
    _, mask, _ = fill(raw, low, high)
    assert not mask[5:8, 5:8].any()
