from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.simulation.crystal import Crystal, Imperfection, Reflections
from dials_cnn_screen.simulation.detector import tile_map
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA
from dials_cnn_screen.simulation.point_spread import blur
from dials_cnn_screen.simulation.spots import (
    Spots,
    background_counts,
    brighten,
    draw_spots,
    no_spots,
    place_photons,
    project,
    significance,
    threshold_photons,
)

WAVELENGTH = 1.3


def make_spots(photons, slow=50.0, fast=60.0, covariance=0.16):
    n = len(photons)
    shape = np.broadcast_to(covariance * np.eye(2), (n, 2, 2))
    place = np.ones(n)
    return Spots(slow * place, fast * place, shape, np.asarray(photons, float))


def visible(spots, background):
    return int((significance(spots.photons, background) >= VISIBLE_SIGMA).sum())


# Where spots are


PERFECT = Imperfection(3000.0, 0.0, 0.0)


def spots_at(experiment, s, imperfection=PERFECT, focus=0.3):
    s = np.atleast_2d(np.asarray(s, float))
    reflections = Reflections(s, np.arange(1.0, len(s) + 1))
    return project(reflections, imperfection, focus, experiment, WAVELENGTH)


def on_ewald_sphere(d, azimuth):
    """Scattering vector of spacing d that is in diffracting position, beam along +z."""
    theta = math.asin(WAVELENGTH / (2 * d))
    across = math.cos(theta) / d
    return across * math.cos(azimuth), across * math.sin(azimuth), -math.sin(theta) / d


@pytest.mark.parametrize("d", [20.0, 4.0, 2.5])
@pytest.mark.parametrize("azimuth", [0.3, 1.9, 4.0])
def test_spots_are_at_the_bragg_angle(ccd_experiment, d, azimuth):
    spots = spots_at(ccd_experiment, on_ewald_sphere(d, azimuth))
    radius = 110.0 * math.tan(2 * math.asin(WAVELENGTH / (2 * d))) / 0.7
    # Fast runs along +x and slow along -y.
    assert spots.fast[0] == pytest.approx(120 + radius * math.cos(azimuth))
    assert spots.slow[0] == pytest.approx(100 - radius * math.sin(azimuth))


def test_spots_off_the_detector_and_in_the_hole_are_left_out(ccd_experiment):
    s = [on_ewald_sphere(d, a) for d, a in [(1.4, 0.1), (200.0, 0.1), (4.0, 0.1)]]
    assert spots_at(ccd_experiment, s).photons.tolist() == [3.0]


def test_back_scattering_is_left_out(ccd_experiment):
    assert not len(spots_at(ccd_experiment, on_ewald_sphere(0.68, 0.5)))


def test_spots_in_gaps_and_in_the_shadow_are_left_out(pad_experiment):
    in_gap = on_ewald_sphere(20.0, 1.0)  # between the tiles, near the beam
    in_tile = on_ewald_sphere(3.0, math.pi / 2 + 0.1)
    at_bottom = on_ewald_sphere(3.0, -math.pi / 2 - 0.5)
    s = [in_gap, in_tile, at_bottom]
    assert spots_at(pad_experiment, s).photons.tolist() == [2.0, 3.0]
    detector = replace(pad_experiment.detector, shadowed_rows=110)
    shadowed = replace(pad_experiment, detector=detector)
    assert spots_at(shadowed, s).photons.tolist() == [2.0]


def test_shape_of_a_perfect_crystals_spot_is_the_focus(ccd_experiment):
    spots = spots_at(ccd_experiment, on_ewald_sphere(3.0, 0.7), focus=0.5)
    np.testing.assert_allclose(spots.covariance[0], 0.25 * np.eye(2))


def test_mosaic_spots_are_streaks(ccd_experiment):
    s = on_ewald_sphere(3.0, 0.0)
    # Tangentially by the mosaicity, at a radius of some 75 pixels.
    mosaic = spots_at(ccd_experiment, s, Imperfection(3000.0, 0.01, 0.0), 0.1)
    radius = mosaic.fast[0] - 120
    np.testing.assert_allclose(
        mosaic.covariance[0], [[0.01 + (0.01 * radius) ** 2, 0], [0, 0.01]], atol=1e-9
    )
    # Radially by what is narrower, mosaicity or the bandwidth's spread of 2 theta.
    both = spots_at(ccd_experiment, s, Imperfection(3000.0, 0.01, 0.002), 0.1)
    theta = math.asin(WAVELENGTH / 6)
    turn = 2 * 0.002 * math.tan(theta) * 110 / 0.7 / math.cos(2 * theta) ** 2
    assert both.covariance[0, 1, 1] == pytest.approx(0.01 + turn**2)


def test_spots_of_an_experiment_are_on_active_pixels(ccd_experiment):
    spots = draw_spots(ccd_experiment, WAVELENGTH, np.random.default_rng(0))
    assert len(spots) > 20
    tiles = tile_map(ccd_experiment.detector).numpy()
    assert (tiles[spots.slow.astype(int), spots.fast.astype(int)] >= 0).all()
    assert (spots.photons > 0).all()
    assert (np.linalg.eigvalsh(spots.covariance) > 0).all()


def test_more_lattices_more_spots(ccd_experiment):
    def mean_number(lattices):
        experiment = replace(ccd_experiment, lattices=lattices)
        rng = np.random.default_rng(0)
        return np.mean(
            [len(draw_spots(experiment, WAVELENGTH, rng)) for _ in range(20)]
        )

    assert 2 < mean_number((0, 0, 1)) / mean_number((1,)) < 4.5


# How visible they are


@pytest.mark.parametrize(
    ("photons", "background"), [(10, 1.0), (3, 0.01), (30, 100.0), (0, 5.0)]
)
def test_significance_is_the_likelihood_ratio(photons, background):
    n = photons + background
    expected = math.sqrt(max(0, 2 * (n * math.log(n / background) - photons)))
    assert significance(np.array(photons), np.array(background)) == pytest.approx(
        expected, abs=1e-6
    )


def test_significance_over_many_photons_is_that_of_a_gaussian():
    # 300 over a background of 10000 are three standard deviations of 100.
    assert significance(np.array(300.0), np.array(1e4)) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(("background", "photons"), [(0.1, 7), (1.0, 12), (10.0, 25)])
def test_significance_agrees_with_the_poisson_distribution(background, photons):
    stats = pytest.importorskip("scipy.stats")
    sigma = significance(np.array(photons), np.array(background))
    total = photons + math.floor(background)
    chance = stats.poisson.sf(total - 1, background)
    assert stats.norm.isf(chance) == pytest.approx(sigma, rel=0.15)


def test_chance_of_a_false_spot():
    # On three million places, fewer than one is seen.
    stats = pytest.importorskip("scipy.stats")
    for background in (0.5, 5.0, 50.0):
        n = math.ceil(
            background + threshold_photons(np.array(background), VISIBLE_SIGMA)
        )
        assert 3e6 * stats.poisson.sf(n - 1, background) < 1


def test_threshold_photons_are_just_visible():
    background = np.array([0.0, 1e-3, 0.3, 5.0, 100.0, 1e5])
    threshold = threshold_photons(background, VISIBLE_SIGMA)
    assert (significance(threshold, background) >= VISIBLE_SIGMA).all()
    assert (significance(0.999 * threshold, background) < VISIBLE_SIGMA).all()
    assert (np.diff(threshold[1:]) > 0).all()


def test_background_of_a_broad_spot():
    # A spot of sd 3 pixels covers 4 pi 9 pixels.
    spots = make_spots([1.0], covariance=9.0)
    area = 4 * math.pi * (9 + 1 / 12)
    level, noise = np.array([2.0]), 0.5
    expected = area * (level + noise**2)
    np.testing.assert_allclose(background_counts(spots, level, noise, 0.0), expected)


def test_a_spot_covers_at_least_a_pixel():
    spots = make_spots([1.0], covariance=1e-6)
    background = background_counts(spots, np.array([2.0]), 0.0, 0.0)
    # A pixel as a Gaussian, 4 pi / 12, is about 1.
    assert background == pytest.approx(2 * 4 * math.pi / 12, rel=1e-4)


def test_point_spread_makes_more_background():
    spots = make_spots([1.0])
    counts = [
        background_counts(spots, np.array([50.0]), 1.0, psf)[0] for psf in (0, 0.85, 2)
    ]
    assert counts[0] < counts[1] < counts[2]


# Brightness


def just_visible(background):
    """Photons that make a spot visible, (n,)."""
    return threshold_photons(background, VISIBLE_SIGMA)


def test_a_spot_that_cannot_be_visible_is_not_counted():
    rng = np.random.default_rng(0)
    spots = make_spots(rng.exponential(size=20))
    threshold = just_visible(np.ones(20))
    threshold[::2] = np.inf
    bright = brighten(spots, threshold, 4, rng)
    bright = bright.with_photons(bright.photons * (1 + 1e-9))
    assert np.count_nonzero(bright.photons >= threshold) == 4
    assert not len(brighten(spots, np.full(20, np.inf), 4, rng))


@pytest.mark.parametrize("n_visible", [0, 1, 2, 9, 40, 100])
def test_brighten_makes_that_number_visible(n_visible):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spots = make_spots(rng.exponential(size=200))
        background = rng.uniform(0.1, 50, 200)
        bright = brighten(spots, just_visible(background), n_visible, rng)
        # The weakest may be made exactly as bright as can just be seen.
        bright = bright.with_photons(bright.photons * (1 + 1e-9))
        assert visible(bright, background) == n_visible


def test_brighten_scales_all_alike():
    rng = np.random.default_rng(0)
    spots = make_spots(rng.exponential(size=50))
    ratio = brighten(spots, just_visible(np.ones(50)), 10, rng).photons / spots.photons
    np.testing.assert_allclose(ratio, ratio[0])


def test_no_more_than_half_of_the_spots_are_made_visible():
    rng = np.random.default_rng(0)
    spots = make_spots(rng.exponential(size=30))
    bright = brighten(spots, just_visible(np.ones(30)), 500, rng)
    bright = bright.with_photons(bright.photons * (1 + 1e-9))
    assert visible(bright, np.ones(30)) == 15


@pytest.mark.parametrize("n_visible", [0, 1, 5])
def test_brighten_one_spot(n_visible):
    rng = np.random.default_rng(0)
    bright = brighten(make_spots([3.0]), just_visible(np.ones(1)), n_visible, rng)
    bright = bright.with_photons(bright.photons * (1 + 1e-9))
    assert visible(bright, np.ones(1)) == min(n_visible, 1)


def test_brighten_no_spots():
    assert not len(brighten(no_spots(), np.empty(0), 5, np.random.default_rng(0)))


# Photons


def test_scatter_places_every_photon():
    image = place_photons(
        make_spots([30, 0, 500]), (100, 120), np.random.default_rng(0)
    )
    assert image.shape == (100, 120)
    assert float(image.sum()) == 530


def test_very_bright_spots_keep_their_photons():
    image = place_photons(make_spots([1e6]), (100, 120), np.random.default_rng(0))
    assert float(image.sum()) == pytest.approx(1e6, rel=1e-5)


def test_scattered_photons_have_place_and_shape():
    covariance = np.array([[[4.0, 1.5], [1.5, 2.0]]])
    spots = Spots(np.array([50.5]), np.array([60.25]), covariance, np.array([4000]))
    image = place_photons(spots, (100, 120), np.random.default_rng(0)).double().numpy()
    weight = image / image.sum()
    y, x = np.mgrid[0.5:100, 0.5:120]
    mean_y, mean_x = (weight * y).sum(), (weight * x).sum()
    assert (mean_y, mean_x) == (
        pytest.approx(50.5, abs=0.1),
        pytest.approx(60.25, abs=0.1),
    )
    # A pixel adds 1/12.
    assert (weight * (y - mean_y) ** 2).sum() == pytest.approx(4 + 1 / 12, rel=0.1)
    assert (weight * (x - mean_x) ** 2).sum() == pytest.approx(2 + 1 / 12, rel=0.1)
    assert (weight * (y - mean_y) * (x - mean_x)).sum() == pytest.approx(1.5, rel=0.15)


def test_photons_off_the_edge_are_lost():
    spots = make_spots([2000], slow=0.0)
    image = place_photons(spots, (100, 120), np.random.default_rng(0))
    assert float(image.sum()) == pytest.approx(1000, abs=120)
    assert float(blur(image, 0.85)[:5].sum()) > 500


def test_scatter_nothing():
    assert not place_photons(no_spots(), (20, 30), np.random.default_rng(0)).any()


def test_cubic_cell_has_spots_at_its_spacings(ccd_experiment):
    experiment = replace(
        ccd_experiment,
        crystal=Crystal((60.0, 60.0, 60.0, 90.0, 90.0, 90.0)),
        d_min=4.0,
        domain_size=(1e5, 1e5 + 1),
        mosaicity=(1e-5, 1.1e-5),
        bandwidth=(1e-3, 1.1e-3),
    )
    spots = draw_spots(experiment, WAVELENGTH, np.random.default_rng(2))
    radius = 0.7 * np.hypot(spots.slow - 100, spots.fast - 120)
    two_theta = np.arctan(radius / experiment.distance)
    order = (60 * 2 * np.sin(two_theta / 2) / WAVELENGTH) ** 2
    assert len(order) > 5
    np.testing.assert_allclose(order, np.rint(order), atol=0.01 * order.max())
