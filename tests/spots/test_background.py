from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.spots.background import (
    MOST_SKEW,
    background,
    interpolate,
    median_of_nine,
    steps,
)


def noise(seed: int = 0, level: float = 40, shape: tuple = (120, 100)) -> np.ndarray:
    return np.random.default_rng(seed).poisson(level, shape).astype(np.float32)


def test_background_is_that_of_the_pixels_without_spots():
    data = noise(level=400)
    data[5:8, 5:8] += 5000
    mean, inverse, _ = background(data, np.ones(data.shape, bool))
    assert mean.shape == inverse.shape == (8, 7)
    np.testing.assert_allclose(mean, 400, rtol=0.02)
    # Outliers upwards are cut at three deviations, which narrows Gaussian noise little.
    np.testing.assert_allclose(1 / inverse, 20, rtol=0.2)


def test_background_of_a_gap_is_that_of_its_neighbours():
    data, mask = noise(), np.ones((120, 100), bool)
    data[32:80, 32:64], mask[32:80, 32:64] = 1e6, False
    mean, _, _ = background(data, mask)
    np.testing.assert_allclose(mean, 40, rtol=0.1)


def test_interpolation_is_exact_for_a_slope():
    blocks = np.add.outer(np.arange(8.0) * 16, np.arange(7.0) * 32).astype(np.float32)
    full = interpolate(blocks, (120, 100))
    # Block (i, j) has its value at pixel (16 i + 7.5, 16 j + 7.5).
    assert full[40, 40] == pytest.approx((40 - 7.5) + 2 * (40 - 7.5))
    assert full[0, 0] == blocks[0, 0]


def test_steps_stop_at_the_last_block():
    low, high, part = steps(48, 3)
    assert (low[0], high[0], part[0]) == (0, 1, 0)
    assert (low[20], high[20], part[20]) == (0, 1, (20 - 7.5) / 16)
    assert (low[-1], high[-1], part[-1]) == (2, 2, 0)


def test_skewness_is_that_of_the_photons():
    data = noise(level=0.5, shape=(480, 480)) * 7 + 100
    _, inverse, skew = background(data, np.ones(data.shape, bool))
    assert np.median(skew) == pytest.approx(0.5**-0.5, rel=0.1)
    assert 1 / np.median(inverse) == pytest.approx(7 * 0.5**0.5, rel=0.1)


def test_rare_photons_widen_the_noise_of_electronics():
    rng = np.random.default_rng(1)
    shape = (480, 480)
    data = 20 * rng.poisson(0.05, shape) + rng.normal(0, 1, shape)
    _, inverse, skew = background(data.astype(np.float32), np.ones(shape, bool))
    assert 1 / np.median(inverse) == pytest.approx((0.05 * 400 + 1) ** 0.5, rel=0.1)
    assert (skew > 2).all()


def test_a_spot_neither_widens_nor_skews_the_noise_around_it():
    data = noise(level=400)
    plain = background(data, np.ones(data.shape, bool))
    data[52:56, 52:56] += 5000
    found = background(data, np.ones(data.shape, bool))
    for before, after in zip(plain, found, strict=True):
        np.testing.assert_allclose(after, before, rtol=0.2, atol=0.2)


def test_dark_pixels_of_whole_numbers():
    data = noise(level=0.01)
    _, inverse, skew = background(data, np.ones(data.shape, bool))
    np.testing.assert_allclose(inverse, 1 / 0.3)
    assert 0 <= skew.min() <= skew.max() <= np.float32(MOST_SKEW)


def test_median_of_nine():
    values = np.random.default_rng(0).integers(0, 6, (9, 400))
    found = median_of_nine(list(values))
    np.testing.assert_array_equal(found, np.median(values, axis=0))


def frames() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    shape = (131, 117)
    whole = np.ones(shape, bool)
    holes = rng.random(shape) < 0.9
    holes[40:60], holes[:, 90:97] = False, False
    counts = rng.poisson(30, shape)
    spots = counts.astype(np.float32)
    spots[20:23, 30:33] += 2000
    photons = 20 * rng.poisson(0.1, shape) + rng.normal(0, 2, shape)
    return {
        "integers": (counts, whole),
        "unsigned": (counts.astype(np.uint16), holes),
        "spots": (spots, holes),
        "negative": (spots - 100, holes),
        "few photons": (rng.poisson(0.02, shape).astype(np.float32), whole),
        "photons and noise": (photons.astype(np.float32), holes),
        "flat": (np.full(shape, 7, np.float32), whole),
        "all masked": (spots, ~whole),
        "one block": (spots[:16, :16], whole[:16, :16]),
        "tiny": (spots[:3, :2], whole[:3, :2]),
    }


@pytest.mark.parametrize("name", frames())
def test_kernel_equals_reference(name):
    pytest.importorskip("numba")
    from dials_cnn_screen.spots import background_cpu

    data, mask = frames()[name]
    expected, found = background(data, mask), background_cpu.background(data, mask)
    for field, of_kernel, of_reference in zip(
        expected._fields, found, expected, strict=True
    ):
        assert of_kernel.dtype == of_reference.dtype == np.float32
        np.testing.assert_allclose(
            of_kernel, of_reference, rtol=1e-4, atol=1e-4, err_msg=field
        )
