from __future__ import annotations

import itertools
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.simulation.background import Bar, Disc
from dials_cnn_screen.simulation.crystal import (
    lattice_points,
    orthogonalisation_matrix,
)
from dials_cnn_screen.simulation.defects import Defects
from dials_cnn_screen.simulation.detector import defect_maps, tile_map, usable_pixels
from dials_cnn_screen.simulation.detector_families import (
    DETECTOR_FAMILIES,
    draw_detector,
)
from dials_cnn_screen.simulation.experiments import EXPERIMENTS, VISIBLE_SIGMA
from dials_cnn_screen.simulation.random_experiments import (
    CELL_EDGES,
    DISTANCES,
    WAVELENGTHS,
    draw_experiment,
    find_experiment,
    plan_random_experiments,
)
from dials_cnn_screen.simulation.run import simulate_run
from dials_cnn_screen.simulation.shot import simulate_shot
from dials_cnn_screen.simulation.spots import Spots, distinct

COUNTING = ("eiger", "pilatus")


@pytest.fixture(scope="module", params=DETECTOR_FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def experiments(family):
    rng = np.random.default_rng(0)
    return [draw_experiment(rng, [family]) for _ in range(12)]


@pytest.fixture(scope="module")
def shots(experiments):
    """A shot of each of four experiments: (experiment, aim, shot)."""
    aims = [Label.HIT, Label.MAYBE, Label.MISS, Label.HIT]
    return [
        (experiment, aim, simulate_shot(experiment, aim, seed))
        for seed, (experiment, aim) in enumerate(zip(experiments, aims, strict=False))
    ]


# Experiments


def test_experiments_are_within_the_ranges(experiments, family):
    for experiment in experiments:
        detector = experiment.detector
        assert detector.family == family
        assert experiment.name.startswith(f"{family}-")
        assert WAVELENGTHS[0] <= experiment.wavelength <= WAVELENGTHS[1]
        assert DISTANCES[0] <= experiment.distance <= DISTANCES[1]
        cell = experiment.crystal.cell
        assert CELL_EDGES[0] <= min(cell[:3]) <= max(cell[:3]) <= CELL_EDGES[1]
        assert np.linalg.det(orthogonalisation_matrix(cell)) > 0
        assert 0.05 <= detector.pixel_size <= 0.2
        assert 0.3 <= detector.gain <= 30
        assert 0.3e6 < np.prod(detector.shape) < 6.3e6
        for field in ("ring", "air", "b_factor", "mosaicity", "bandwidth", "focus"):
            low, high = getattr(experiment, field)
            assert 0 < low < high
        assert experiment.d_min >= 0.5 * experiment.wavelength


def test_lattice_points_stay_few(experiments):
    for experiment in experiments:
        assert len(lattice_points(experiment.crystal, experiment.d_min)) < 220_000


def test_experiments_of_a_family_differ(experiments):
    assert len({e.name for e in experiments}) == len(experiments)
    assert len({e.wavelength for e in experiments}) == len(experiments)
    assert len({e.detector.shape for e in experiments}) > 3
    assert len({e.crystal for e in experiments}) == len(experiments)


def test_beam_is_near_or_on_the_frame(experiments):
    for experiment in experiments:
        detector = experiment.detector
        for beam, n in zip(detector.beam_centre, detector.shape, strict=True):
            assert -0.35 * n < beam < 1.35 * n


def test_beam_is_sometimes_off_the_frame():
    rng = np.random.default_rng(1)
    detectors = [draw_detector("eiger", rng) for _ in range(60)]
    off = [
        not all(0 <= beam < n for beam, n in zip(d.beam_centre, d.shape, strict=True))
        for d in detectors
    ]
    assert 0.01 < np.mean(off) < 0.3


def test_a_name_is_enough(experiments):
    assert find_experiment(experiments[0].name) == experiments[0]
    assert find_experiment("LO19") is EXPERIMENTS["LO19"]


@pytest.mark.parametrize("name", ["LO20", "percival-12", "eiger-", "eiger"])
def test_unknown_experiment(name):
    with pytest.raises(ValueError, match=r"no experiment|no detector family"):
        find_experiment(name)


def test_only_the_families_asked_for():
    rng = np.random.default_rng(0)
    drawn = {draw_experiment(rng, ["epix", "agipd"]).detector.family for _ in range(9)}
    assert drawn == {"epix", "agipd"}


# Plans


def test_a_plan():
    jobs = plan_random_experiments(600, seed=1)
    assert len(jobs) == 600
    assert jobs == plan_random_experiments(600, seed=1)
    assert jobs != plan_random_experiments(600, seed=2)
    assert pickle.loads(pickle.dumps(jobs)) == jobs
    assert len({seed for _, _, seed in jobs}) == 600
    assert {name.split("-")[0] for name, _, _ in jobs} == set(DETECTOR_FAMILIES)
    names = [name for name, _, _ in jobs]
    shared = Counter(names)
    assert set(list(shared.values())[:-1]) == {4, 5, 6, 7, 8}
    # The shots of an experiment follow each other.
    changes = sum(a != b for a, b in itertools.pairwise(names))
    assert changes == len(shared) - 1
    assert {aim for _, aim, _ in jobs} == set(Label)


def test_a_plan_without_a_family():
    jobs = plan_random_experiments(
        300, 0, families=[f for f in DETECTOR_FAMILIES if f != "cspad"]
    )
    assert not any(name.startswith("cspad") for name, _, _ in jobs)


def test_shots_of_a_plan():
    jobs = plan_random_experiments(2, 3)
    for shot, (name, aim, seed) in zip(simulate_run(jobs, 1), jobs, strict=True):
        expected = simulate_shot(find_experiment(name), aim, seed)
        np.testing.assert_array_equal(shot.image, expected.image)


# Shots


def test_same_seed_same_shot(shots):
    experiment, aim, shot = shots[0]
    again = simulate_shot(experiment, aim, 0)
    np.testing.assert_array_equal(shot.image, again.image)
    np.testing.assert_array_equal(shot.mask, again.mask)
    np.testing.assert_array_equal(shot.significance, again.significance)
    assert shot.kind == again.kind
    assert not np.array_equal(shot.image, simulate_shot(experiment, aim, 1).image)


def test_masks(shots):
    for experiment, _, shot in shots:
        detector = experiment.detector
        assert shot.mask.shape == shot.image.shape == detector.shape
        assert shot.mask.dtype == bool
        assert shot.mask.any()
        assert not shot.mask[tile_map(detector).numpy() < 0].any()
        _, masked = defect_maps(detector)
        assert not shot.mask[masked].any()
        np.testing.assert_array_equal(shot.mask, usable_pixels(detector, shot.image))


def test_truth(shots):
    for experiment, _, shot in shots:
        n = len(shot.spots)
        assert len(shot.photons) == len(shot.significance) == n
        visible = {tuple(place) for place in shot.visible}
        strong = {
            tuple(place)
            for place, sigma in zip(shot.spots, shot.significance, strict=True)
            if sigma >= VISIBLE_SIGMA
        }
        assert visible <= strong
        assert len(visible) >= 0.3 * len(strong)
        assert shot.label is label_from_spots(len(shot.visible))
        # Overloads apart, visible spots are on pixels that are used and sound.
        y, x = shot.visible.astype(int).T
        defect, _ = defect_maps(experiment.detector)
        overloaded = shot.image[y, x] >= experiment.detector.saturation
        assert (shot.mask[y, x] | overloaded).all()
        assert not defect[y, x].any()
        assert (shot.kind == "crystal") == (shot.label is not Label.MISS)


def test_counting_detectors_count(shots, family):
    if family not in COUNTING:
        pytest.skip("integrates")
    for experiment, _, shot in shots:
        assert experiment.detector.counting
        assert experiment.detector.gain == 1
        assert shot.image[shot.mask].min() >= 0


def test_counts_without_beam_are_nought():
    rng = np.random.default_rng(3)
    experiment = replace(draw_experiment(rng, ["pilatus"]), beam_loss=1.0)
    defects = replace(experiment.detector.defects, bad=0.0, zingers=0.0, tracks=0.0)
    detector = replace(experiment.detector, defects=defects)
    shot = simulate_shot(replace(experiment, detector=detector), Label.MISS, 0)
    assert shot.kind == "blank"
    assert not shot.image[shot.mask].any()
    assert not len(shot.spots)


def test_counts_follow_poisson_statistics():
    rng = np.random.default_rng(3)
    experiment = draw_experiment(rng, ["eiger"])
    detector = replace(experiment.detector, defects=Defects(pixel_gain=1e-9, zingers=0))
    parameters = replace(
        experiment.background, solvent=(), parasitic=(), discs=(), bars=(), uniform=0.5
    )
    experiment = replace(
        experiment,
        detector=detector,
        distance=1e5,
        beam_loss=0.0,
        spike=0.0,
        shadow=None,
        air=(1e-9, 2e-9),
        background=replace(parameters, fluctuation=0.0, powder_chance=0.0),
    )
    shot = next(
        shot
        for shot in (simulate_shot(experiment, Label.MISS, seed) for seed in range(20))
        if shot.kind == "solvent"
    )
    counts = shot.image[shot.mask]
    assert counts.mean() == pytest.approx(0.5, rel=0.02)
    assert counts.var() == pytest.approx(0.5, rel=0.02)
    assert (counts == 0).mean() == pytest.approx(np.exp(-0.5), rel=0.01)


def test_kinds_of_misses(pad_experiment):
    parameters = replace(
        pad_experiment.background,
        powder=(3.9, 3.67),
        powder_chance=0.5,
        powder_grains=0.5,
    )
    experiment = replace(
        pad_experiment, beam_loss=0.3, spike=0.5, background=parameters
    )
    kinds = Counter()
    for seed in range(60):
        shot = simulate_shot(experiment, Label.MISS, seed)
        kinds[shot.kind] += 1
        if shot.kind == "salt":
            assert len(shot.powder)
        if shot.kind == "few spots":
            assert 1 <= len(shot.visible) <= 3
    known = {"blank", "salt", "few spots", "powder", "spikes", "solvent"}
    assert known <= set(kinds) <= known | {"weak crystal", "crystal"}


def test_grains_are_on_the_rings_of_the_powder():
    rng = np.random.default_rng(0)
    experiment = replace(draw_experiment(rng, ["eiger"]), beam_loss=0.0)
    parameters = replace(
        experiment.background,
        powder=(3.9, 2.25),
        powder_chance=1.0,
        powder_grains=1.0,
        discs=(),
        bars=(),
    )
    experiment = replace(experiment, background=parameters)
    detector = experiment.detector
    places = np.concatenate(
        [simulate_shot(experiment, Label.MISS, seed).powder for seed in range(6)]
    )
    assert len(places) > 5
    radius = np.hypot(*(places - detector.beam_centre).T) * detector.pixel_size
    two_theta = np.arctan(radius / experiment.distance)
    d = experiment.wavelength / (2 * np.sin(two_theta / 2))
    nearest = np.where(d > 3, 3.9, 2.25)
    np.testing.assert_allclose(d, nearest, rtol=0.025)


def test_spots_in_shadow_are_left_out(ccd_experiment):
    half = Bar(0.0, 0.0, 1e4, 0.0, 1e4, 0.5, 0.0)
    hole = Disc((0.0, 0.0), 30.0, 0.5, 0.0)
    parameters = replace(ccd_experiment.background, bars=(half,), discs=(hole,))
    shot = simulate_shot(replace(ccd_experiment, background=parameters), Label.HIT, 0)
    slow, fast = (shot.spots - ccd_experiment.detector.beam_centre).T
    assert len(shot.spots) > 10
    # The shadow lies on the right of the beam, and round it.
    assert fast.max() < 3
    assert np.hypot(slow, fast).min() > 27
    lit, dark = shot.image[20:80, :115].mean(), shot.image[20:80, 125:].mean()
    assert dark - 10 < 0.1 * (lit - 10)


# Distinct spots


def spots_at(*places):
    slow, fast = np.array(places, float).T
    n = len(places)
    return Spots(slow, fast, np.zeros((n, 2, 2)), np.ones(n))


def test_near_spots_are_one():
    spots = spots_at((10, 10), (11, 11), (10, 30), (11.9, 30), (13.8, 30), (50, 10))
    strength = np.array([6.0, 9.0, 7.0, 5.0, 8.0, 1.0])
    assert distinct(spots, strength, 2.0).tolist() == [
        False,  # 1.4 pixels from a stronger one
        True,
        True,
        False,  # between two stronger ones
        True,  # 3.8 pixels from the first of the three
        True,
    ]


def test_equal_spots_leave_one():
    spots = spots_at((5, 5), (5, 5), (5.5, 5))
    assert distinct(spots, np.full(3, 6.0), 2.0).sum() == 1


def test_same_row_far_apart():
    spots = spots_at((5, 5), (5, 50), (5, 95), (5, 51))
    assert distinct(spots, np.array([1.0, 2.0, 3.0, 4.0]), 2.0).tolist() == [
        True,
        False,
        True,
        True,
    ]


def test_no_spots_none_distinct():
    none = Spots(np.empty(0), np.empty(0), np.empty((0, 2, 2)), np.empty(0))
    assert distinct(none, np.empty(0), 2.0).tolist() == []
