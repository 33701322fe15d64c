from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots import candidates_cpu
from dials_cnn_screen.spots.candidates import CandidateSearch

SEARCH = CandidateSearch(most=50)


def frames() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    shape = (131, 117)
    whole = np.ones(shape, bool)
    holes = rng.random(shape) < 0.9
    holes[40:60], holes[:, 90:97] = False, False
    poisson = rng.poisson(30, shape).astype(np.float32)
    spots = poisson.copy()
    spots[20:23, 30:33] += 200
    spots[0, 0] += 500
    spots[130, 116] += 500
    smooth = (poisson + np.roll(poisson, 1, 0) + np.roll(poisson, 1, 1)) / 3
    photons = 20 * rng.poisson(0.1, shape) + rng.normal(0, 2, shape)
    return {
        "noise": (poisson, whole),
        "spots": (spots, whole),
        "masked": (spots, holes),
        "correlated": (smooth, whole),
        "negative": (poisson - 100, holes),
        "few photons": (rng.poisson(0.02, shape).astype(np.float32), whole),
        "photons and noise": (photons.astype(np.float32), holes),
        "saturated": (np.where(spots > 60, 65535, spots).astype(np.float32), whole),
        "flat": (np.full(shape, 7, np.float32), whole),
        "all masked": (poisson, np.zeros(shape, bool)),
        "tiny": (poisson[:3, :2], whole[:3, :2]),
        # No integers: rounding may make equal sums of these differ.
        "one row": (rng.normal(30, 5, (1, 117)).astype(np.float32), whole[:1]),
        "integers": (rng.poisson(30, shape).astype(np.int32), whole),
    }


@pytest.mark.parametrize("name", frames())
def test_kernel_equals_reference(name):
    data, mask = frames()[name]
    expected = reference.find_candidates(data, mask, (60.2, 50.7), SEARCH)
    found = candidates_cpu.find_candidates(data, mask, (60.2, 50.7), SEARCH)
    assert found.spread == pytest.approx(expected.spread, rel=1e-4)
    for field in ("total", "low", "used"):
        np.testing.assert_array_equal(
            getattr(found, field), getattr(expected, field), err_msg=field
        )
    for field in ("slow", "fast"):
        np.testing.assert_array_equal(
            getattr(found, field), getattr(expected, field), err_msg=field
        )
    for field in ("z", "summed", "noise", "skew", "radius", "patches"):
        np.testing.assert_allclose(
            getattr(found, field),
            getattr(expected, field),
            rtol=1e-4,
            atol=2e-4,
            err_msg=field,
        )


def test_median_is_numpys():
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(0, 1, 1001),
        rng.normal(0, 3, 1000),
        rng.normal(100, 1, 500),
        rng.integers(-2, 3, 400),
        np.zeros(7),
        np.array([-5.0, 5.0]),
    ):
        values = values.astype(np.float32)
        assert candidates_cpu._median(values) == np.median(values)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float64"])
def test_any_type_of_pixel_gives_the_same(kind):
    data, mask = frames()["masked"]
    data = np.minimum(data, 250)
    expected = candidates_cpu.find_candidates(data, mask, (60.2, 50.7), SEARCH)
    # Not contiguous either, as a detector's panel in a larger array.
    wide = np.zeros((data.shape[0], 2 * data.shape[1]), kind)
    wide[:, ::2] = data
    found = candidates_cpu.find_candidates(wide[:, ::2], mask, (60.2, 50.7), SEARCH)
    for field in ("slow", "fast", "z", "patches"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-5
        )
