from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.images.overloads_cpu import (
    MASKED,
    MOST_PIXELS,
    MOST_SHARE,
    OVERLOADED,
    REACH,
    USED,
    use_overloads,
)

HIGH = 1000


def frame(shape=(60, 80), level=20.0):
    """Data, float32 (slow, fast), and an image without overloads, bool."""
    return np.full(shape, level, np.float32), np.zeros(shape, bool)


def use(data, overloaded, masked=None):
    """Data and mask after use_overloads; overloaded pixels have 5 times HIGH before."""
    data = data.copy()
    data[overloaded] = 5 * HIGH
    states = np.where(overloaded, OVERLOADED, USED)
    if masked is not None:
        states[masked] = MASKED
    use_overloads(states, overloaded.any(axis=1), data, HIGH)
    assert set(np.unique(states)) <= {MASKED, USED}
    return data, states == USED


def square(size, at=(20, 30)):
    data, overloaded = frame()
    overloaded[at[0] : at[0] + size, at[1] : at[1] + size] = True
    return data, overloaded


def test_values_rise_inwards():
    data, mask = use(*square(5))
    assert mask.all()
    one, two, three = HIGH, 2 * HIGH - 20, 3 * HIGH - 40
    expected = [[one] * 5, [one, two, two, two, one], [one, two, three, two, one]]
    np.testing.assert_array_equal(data[20:23, 30:35], expected)
    np.testing.assert_array_equal(data[22:25, 30:35], expected[::-1])
    assert (data[19] == 20).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 30), (60, 1)])
def test_single_pixels_and_lines_stay_masked(size):
    data, overloaded = frame()
    overloaded[: size[0], 7 : 7 + size[1]] = True
    found, mask = use(data, overloaded)
    np.testing.assert_array_equal(mask, ~overloaded)
    assert (found[overloaded] == 5 * HIGH).all()


def test_only_the_squares_of_a_shape_count():
    data, overloaded = square(2)
    overloaded[20, 32:40] = True  # a line that leaves it
    _, mask = use(data, overloaded)
    assert mask[20:22, 30:32].all()
    assert not mask[20, 32:40].any()


def test_groups_up_to_a_size_count():
    data, overloaded = square(13)
    assert overloaded.sum() == MOST_PIXELS
    assert use(data, overloaded)[1].all()
    overloaded[33, 30:32] = True
    np.testing.assert_array_equal(use(data, overloaded)[1], ~overloaded)


def test_groups_that_touch_at_corners_are_one():
    data, overloaded = square(12)
    overloaded[32:44, 42:54] = True
    assert not use(data, overloaded)[1][overloaded].any()


def test_what_a_mask_leaves_of_a_larger_group_stays_masked():
    data, overloaded = square(6)
    masked = np.zeros_like(overloaded)
    masked[20:26, 36:50] = True
    assert use(data, overloaded, masked)[1][overloaded].all()  # beside a plain gap
    data[masked] = HIGH + 1
    assert not use(data, overloaded, masked)[1].any(where=overloaded | masked)


def test_a_frame_that_is_mostly_overloaded_stays_masked():
    data, overloaded = frame((40, 40))
    overloaded[::4, ::2] = overloaded[1::4, ::2] = True
    overloaded[:2, :2] = True
    assert overloaded.mean() > MOST_SHARE
    np.testing.assert_array_equal(use(data, overloaded)[1], ~overloaded)


@pytest.mark.parametrize("at", [(0, 0), (57, 77), (0, 77), (30, 0)])
def test_at_the_edge_of_the_frame(at):
    data, mask = use(*square(3, at))
    assert mask.all()
    expected = np.full((3, 3), HIGH)
    expected[1, 1] = 2 * HIGH - 20
    np.testing.assert_array_equal(data[at[0] :, at[1] :][:3, :3], expected)


def test_noise_at_saturation_makes_no_maxima():
    data, overloaded = frame(level=990)
    overloaded[20:25, 30:35] = True
    found, _ = use(data, overloaded)
    assert found.max() == HIGH + 2 * 10


def test_nothing_used_around():
    data, overloaded = square(3)
    found, _ = use(data, overloaded, ~overloaded)
    assert (found[overloaded] == HIGH).all()


def test_values_stay_finite():
    data, overloaded = square(5)
    states = np.where(overloaded, OVERLOADED, USED)
    use_overloads(states, overloaded.any(axis=1), data, 3e38)
    assert np.isfinite(data).all()
    assert data[22, 32] == np.finfo(np.float32).max


@pytest.mark.parametrize("seed", range(6))
def test_as_by_scipy(seed):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(
        rng.normal(size=(150, 130)), [0.8, 1.5, 3][seed % 3]
    )
    overloaded = noise > np.quantile(noise, [0.9, 0.97][seed % 2])
    masked = ~overloaded & (rng.random(overloaded.shape) < 0.03)
    data = rng.poisson(200, overloaded.shape).astype(np.float32)
    data[masked & (rng.random(overloaded.shape) < 0.1)] = 2 * HIGH
    found, mask = use(data, overloaded, masked)

    data[overloaded] = 5 * HIGH
    expected, used = data.copy(), ~masked & ~overloaded
    eight = np.ones((3, 3))
    squares = ndimage.binary_opening(overloaded, np.ones((2, 2)))
    labels, n = ndimage.label(squares, eight)
    kept = 0
    for group in (labels == i + 1 for i in range(n)):
        near = ndimage.binary_dilation(group, eight)
        if group.sum() > MOST_PIXELS or (near & masked & (data > HIGH)).any():
            continue
        kept += 1
        i, j = np.nonzero(ndimage.binary_dilation(group, eight, REACH))
        around = np.s_[i.min() : i.max() + 1, j.min() : j.max() + 1]
        mean = np.minimum(expected[around], HIGH)[used[around]].mean()
        depth = ndimage.distance_transform_cdt(np.pad(group, 1), "chessboard")
        values = HIGH + (depth[1:-1, 1:-1] - 1) * (HIGH - mean)
        expected[group], used[group] = values[group], True
    assert kept > 3
    np.testing.assert_array_equal(mask, used)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
