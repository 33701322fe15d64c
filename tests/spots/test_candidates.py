from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.spots.candidates import (
    PATCH,
    PIXEL_HANDICAP,
    REACH,
    CandidateSearch,
    find_candidates,
    rank,
    significance,
    sum_deviation,
)

SEARCH = CandidateSearch(most=40)
CENTRE = (60.0, 50.0)


def noise(seed: int = 0, level: float = 40, shape: tuple = (120, 100)) -> np.ndarray:
    return np.random.default_rng(seed).poisson(level, shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_spots_of_any_width_are_found(width):
    data = noise(level=40)
    half = width // 2
    # Sums that stand out by some 12 deviations of their own.
    data[60 - half : 61 + half, 30 - half : 31 + half] += 12 * 40**0.5 / width
    data[60, 30] += 4
    found = find_candidates(data, np.ones(data.shape, bool), CENTRE, SEARCH)
    away = np.maximum(abs(found.slow - 60), abs(found.fast - 30))
    assert (away <= half).any()
    strength = np.maximum(found.z - PIXEL_HANDICAP, found.summed)
    assert (np.diff(strength) <= 1e-6).all()


def test_gaps_and_their_edges_are_no_candidates():
    data, mask = noise(level=400), np.ones((120, 100), bool)
    mask[40:50], mask[:, 70:80] = False, False
    data[~mask] = 1e5
    found = find_candidates(data, mask, CENTRE, SEARCH)
    assert len(found.z)
    assert mask[found.slow, found.fast].all()
    assert found.z.max() < 7


def test_patch_is_what_is_around_the_candidate():
    data, mask = noise(level=0), np.ones((120, 100), bool)
    data[30, 40], data[31, 41], mask[29, 40] = 50, 20, False
    found = find_candidates(data, mask, (30.5, 30.5), SEARCH)
    (patch,) = found.patches
    assert patch.shape == (2, PATCH, PATCH)
    # Without a background, the deviation of integers is 0.3.
    assert patch[0, REACH, REACH] == pytest.approx(np.arcsinh(50 / 0.3), rel=1e-5)
    assert patch[0, REACH + 1, REACH + 1] == pytest.approx(np.arcsinh(20 / 0.3))
    assert patch[1].sum() == PATCH**2 - 1
    assert patch[1, REACH - 1, REACH] == 0
    assert found.radius == pytest.approx(10)


def test_of_equal_neighbours_one_is_a_candidate():
    data = np.zeros((64, 64), np.float32)
    data[20:22, 20:22] = 9
    found = find_candidates(data, np.ones(data.shape, bool), (32, 32), SEARCH)
    assert (found.slow.tolist(), found.fast.tolist()) == ([20], [20])


@pytest.mark.parametrize(
    ("beam_centre", "sign"),
    [((48.5, -60.0), 1), ((-60.0, 48.5), -1), ((48.5, 48.5), 0)],
)
def test_surroundings_are_brighter_along_a_ring(beam_centre, sign):
    # A spot on a line along slow: seen from a beam far along fast that is its ring.
    data = noise(level=20, shape=(97, 97))
    data[:, 48] += 20
    data[48, 48] += 200
    found = find_candidates(data, np.ones(data.shape, bool), beam_centre, SEARCH)
    at = (found.slow == 48) & (found.fast == 48)
    (along,) = found.along_ring[at]
    assert along == pytest.approx(sign * abs(along), abs=1e-6)
    assert abs(along) > (0.05 if sign else -1)


def test_patch_at_the_corner_is_padded():
    data = np.zeros((64, 64), np.float32)
    data[0, 63] = 9
    found = find_candidates(data, np.ones(data.shape, bool), (32, 32), SEARCH)
    assert found.patches[0, 1].sum() == (REACH + 1) ** 2


def test_nothing_to_find():
    empty = np.zeros((40, 40), np.float32)
    for mask in (np.ones(empty.shape, bool), np.zeros(empty.shape, bool)):
        found = find_candidates(empty, mask, (20, 20), SEARCH)
        assert len(found.z) == 0
        assert found.patches.shape == (0, 2, PATCH, PATCH)
        assert found.total.sum() == 0


def test_sum_deviation_sees_the_point_spread():
    rng = np.random.default_rng(0)
    assert sum_deviation(rng.normal(0, 1, 20000)) == pytest.approx(1, abs=0.03)
    assert sum_deviation(rng.normal(0, 2, 20000)) == pytest.approx(2, rel=0.03)
    assert sum_deviation(np.empty(0)) == 1


def test_rank():
    strength, radius = np.array([6.5, 9.0, 4.5, 5.0]), np.arange(4.0) * 10
    order, total = rank(strength, radius, CandidateSearch(most=3))
    assert order.tolist() == [1, 0, 3]
    assert total.tolist() == [4, 4, 3, 2, 1, 0, 0]


def test_rings_leave_room_for_others():
    strength = np.array([9.0, 8.0, 8.0, 7.0, 5.0, 4.0])
    radius = np.array([12.0, 15.9, 12.1, 14.0, 16.0, 11.9], np.float32)
    order, total = rank(strength, radius, CandidateSearch(most=4, per_ring=2))
    assert order.tolist() == [0, 1, 4, 5]
    assert total[0] == 6


def test_spots_in_the_dark_between_bright_rings_are_found():
    """Most blocks are on a ring, and some hundred times noisier than the dark ones."""
    slow, fast = np.indices((480, 480))
    radius = np.hypot(slow - 240, fast - 240)
    level = np.where(radius < 80, 0.5, 2e3 * (1 + np.cos(radius / 5)))
    data = np.random.default_rng(4).poisson(level).astype(np.int32)
    places = [(220, 210), (250, 270), (270, 230)]
    for place in places:
        data[place] += 40
    found = find_candidates(data, np.ones(data.shape, bool), (240, 240), SEARCH)
    assert set(places) <= set(zip(found.slow, found.fast, strict=True))
    assert (found.z[:3] > 6).all()


def test_noise_beside_a_noisier_region_is_no_candidate():
    rng = np.random.default_rng(4)
    data = rng.normal(0, 2, (320, 320))
    # The border runs through blocks, a few columns from their edge.
    data[:, 163:] *= 8
    found = find_candidates(
        data.astype(np.float32), np.ones(data.shape, bool), (160, 160), SEARCH
    )
    strong = np.maximum(found.z, found.summed) > 5.5
    assert not strong.any()
    # The deviation of the noisy half is the median of the blocks, or near it.
    assert found.noise[found.fast > 200] == pytest.approx(1, abs=0.3)


def test_significance_of_photons_is_their_likelihood_ratio():
    # 3 photons where 0.1 are expected.
    b, n = 0.1, 3
    expected = (2 * (n * np.log(n / b) - (n - b))) ** 0.5
    found = significance(np.float32((n - b) / b**0.5), np.float32(b**-0.5))
    assert found == pytest.approx(expected, rel=1e-5)


def test_significance_of_gaussian_noise_is_its_height():
    heights = np.array([-3, 0, 4, 20], np.float32)
    np.testing.assert_allclose(significance(heights, np.zeros(4)), heights, rtol=0.08)


def test_photons_of_a_dark_background_are_no_candidates():
    rng = np.random.default_rng(5)
    shape, mask = (640, 640), np.ones((640, 640), bool)
    photons = 20 * rng.poisson(0.05, shape) + rng.normal(0, 2, shape)
    few = find_candidates(photons.astype(np.float32), mask, CENTRE, SEARCH).total
    # Of strengths 4, 5 and 6: 20,000 pixels are over 9 deviations of the electronics.
    assert few[1] < 100
    assert few[2] < 10
    assert few[3] == 0


def test_low_pixels_are_counted():
    data = noise(level=400)
    data[50, 60], data[90, 20] = 400 - 7 * 20, 400 - 30 * 20
    mask = np.ones(data.shape, bool)
    low = find_candidates(data, mask, CENTRE, SEARCH).low
    assert low[-1] >= 1
    assert (np.diff(low) <= 0).all()
    mask[90, 20] = False
    assert find_candidates(data, mask, CENTRE, SEARCH).low[-1] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"most": 0}, "most=0"),
        ({"most": 1.5}, "most=1.5"),
    ],
)
def test_searches_that_can_not_be(values, message):
    with pytest.raises(ValueError, match=message):
        CandidateSearch(**values)
