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
    # Equally strong ones may be in another order.
    order, other = (np.lexsort((c.fast, c.slow)) for c in (found, expected))
    for field in ("slow", "fast", "z", "summed", "noise", "skew", "radius", "patches"):
        np.testing.assert_allclose(
            getattr(found, field)[order],
            getattr(expected, field)[other],
            rtol=1e-4,
            atol=2e-4,
            err_msg=field,
        )
