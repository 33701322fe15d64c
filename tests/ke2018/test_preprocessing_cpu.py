"""The compiled kernel against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare

pytest.importorskip("numba")

from dials_cnn_screen.ke2018 import preprocessing_cpu as cpu

SHAPE = (70, 90)


def random_frame(rng):
    return rng.poisson(30, SHAPE), np.ones(SHAPE, bool)


def flat(rng):
    return np.full(SHAPE, 12), np.ones(SHAPE, bool)


def empty(rng):
    return np.zeros(SHAPE), np.ones(SHAPE, bool)


def saturated_block(rng):
    data = rng.poisson(3, SHAPE)
    data[20:50, 30:60] = 65535
    return data, np.ones(SHAPE, bool)


def negative(rng):
    return rng.normal(-50, 20, SHAPE).round(), np.ones(SHAPE, bool)


def bright(rng):
    return 4_000 + rng.poisson(500, SHAPE), np.ones(SHAPE, bool)


def masked(rng):
    data = rng.poisson(30, SHAPE)
    mask = rng.random(SHAPE) < 0.6
    mask[10:40, 20:32] = False
    data[~mask] = 60_000
    return data, mask


def all_masked(rng):
    return rng.poisson(30, SHAPE), np.zeros(SHAPE, bool)


def one_used(rng):
    mask = np.zeros(SHAPE, bool)
    mask[35, 45] = True
    return rng.poisson(30, SHAPE), mask


FRAMES = [
    random_frame,
    flat,
    empty,
    saturated_block,
    negative,
    bright,
    masked,
    all_masked,
    one_used,
]


def compare(data, mask, beam_centre, preprocessing, atol=1e-4):
    result = cpu.prepare(data, mask, beam_centre, preprocessing)
    expected = prepare(data, mask, beam_centre, preprocessing)
    assert result.dtype == np.float32
    # Raw values are compared to float32's precision.
    np.testing.assert_allclose(result, expected, atol=atol, rtol=1e-6)
    return result


@pytest.mark.parametrize("contrast", ["lcn", "linear", "none"])
@pytest.mark.parametrize("binning", [1, 2, 3])
@pytest.mark.parametrize("frame", FRAMES)
def test_frames(frame, binning, contrast):
    data, mask = frame(np.random.default_rng(0))
    preprocessing = Preprocessing(binning, 20, contrast)
    compare(data.astype(np.float32), mask, (33.3, 46.6), preprocessing)


@pytest.mark.parametrize("binning", [2, 3])
@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float32, np.float64])
def test_dtypes(dtype, binning):
    data, mask = masked(np.random.default_rng(1))
    result = compare(data.astype(dtype), mask, (35, 45), Preprocessing(binning, 20))
    assert result.any()


@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize(
    "centre", [(0, 0), (69.9, 3), (-4, 45), (35, 200), (-1000, 1e6), (35, 90)]
)
def test_beam_at_and_off_the_edge(centre, binning):
    data, mask = masked(np.random.default_rng(2))
    compare(data.astype(np.float32), mask, centre, Preprocessing(binning, 24))


@pytest.mark.parametrize("binning", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 101, 200])
def test_crops_smaller_and_larger_than_the_frame(size, binning):
    data, mask = masked(np.random.default_rng(3))
    compare(data.astype(np.float32), mask, (34.5, 45.2), Preprocessing(binning, size))


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 50), (3, 3)])
def test_very_small_frames(shape):
    data = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    compare(data, np.ones(shape, bool), (0.5, 0.5), Preprocessing(2, 8))


def test_a_small_saturated_block_on_a_large_dark_frame():
    data = np.zeros((300, 300), np.float32)
    data[150:155, 150:155] = 65535.3
    result = compare(data, data > -1, (150, 150), Preprocessing(1, 300))
    assert result[152, 152] == 0
    assert result[150, 150] > 1


def test_a_high_level_costs_no_more_than_float32s_rounding():
    data = (90_000 + np.random.default_rng(0).poisson(500, SHAPE)).astype(np.float32)
    compare(data, data > 0, (35, 45), Preprocessing(2, 20))
    compare(data, data > 0, (35, 45), Preprocessing(3, 20), atol=2e-3)


def test_a_read_only_frame_is_left_as_it_is():
    data, mask = masked(np.random.default_rng(5))
    data = data.astype(np.float32)
    before = data.copy()
    data.flags.writeable = mask.flags.writeable = False
    compare(data, mask, (35, 45), Preprocessing(2, 20))
    np.testing.assert_array_equal(data, before)


def test_every_second_pixel_of_a_larger_array():
    data, mask = masked(np.random.default_rng(6))
    data = data.astype(np.float32)
    compare(data[::2, ::2], mask[::2, ::2], (17, 22), Preprocessing(2, 12))
