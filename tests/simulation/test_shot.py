from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.simulation import shot as module
from dials_cnn_screen.simulation.background import Background
from dials_cnn_screen.simulation.detector import tile_map
from dials_cnn_screen.simulation.shot import (
    Shot,
    draw_visible_spots,
    simulate_shot,
)
from dials_cnn_screen.simulation.shot_background import draw_background


def test_the_label_is_that_of_the_visible_spots():
    shot = Shot(
        image=np.zeros((2, 2), np.int32),
        mask=np.ones((2, 2), bool),
        visible=np.zeros((0, 2)),
        wavelength=1.3,
        distance=100.0,
        spots=np.zeros((20, 2)),
        photons=np.zeros(20),
        significance=np.zeros(20),
        powder=np.zeros((30, 2)),
        kind="crystal",
    )
    for n, label in [(3, Label.MISS), (4, Label.MAYBE), (10, Label.HIT)]:
        assert replace(shot, visible=np.zeros((n, 2))).label is label


@pytest.mark.parametrize("aim", Label)
@pytest.mark.parametrize("kind", ["ccd_experiment", "pad_experiment"])
def test_same_seed_same_shot(kind, aim, request):
    experiment = request.getfixturevalue(kind)
    first, again = (simulate_shot(experiment, aim, 7) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.visible, again.visible)
    assert first.wavelength == again.wavelength
    other = simulate_shot(experiment, aim, 8)
    assert not np.array_equal(first.image, other.image)
    assert first.wavelength != other.wavelength


@pytest.mark.parametrize("aim", Label)
def test_aims_are_mostly_met(ccd_experiment, aim):
    shots = [simulate_shot(ccd_experiment, aim, seed) for seed in range(12)]
    assert np.mean([shot.label is aim for shot in shots]) >= 0.75
    assert all(s.label is label_from_spots(len(s.visible)) for s in shots)


@pytest.mark.parametrize("kind", ["ccd_experiment", "pad_experiment"])
def test_visible_spots_are_seen_on_the_image(kind, request):
    experiment = request.getfixturevalue(kind)
    detector = experiment.detector
    seen = []
    for seed in range(8):
        shot = simulate_shot(experiment, Label.MAYBE, seed)
        for i, j in shot.visible.astype(int):
            assert tile_map(detector)[i, j] >= 0
            # The brightest of 3 x 3 pixels among 13 x 13: one in 19 by chance.
            window = slice(max(i - 6, 0), i + 7), slice(max(j - 6, 0), j + 7)
            near = shot.image[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            seen.append(near.max() == shot.image[window].max())
    assert len(seen) > 30
    assert np.mean(seen) > 0.4


@pytest.mark.parametrize("kind", ["ccd_experiment", "pad_experiment"])
def test_images_are_as_the_detector_gives_them(kind, request):
    experiment = request.getfixturevalue(kind)
    detector = experiment.detector
    shot = simulate_shot(experiment, Label.HIT, 3)
    assert shot.image.dtype == np.int32
    assert shot.image.shape == detector.shape
    assert shot.image.max() <= detector.saturation
    assert shot.image.min() >= min(detector.min_trusted, 0)
    assert not shot.image[tile_map(detector).numpy() < 0].any()
    assert shot.distance == experiment.distance
    assert shot.wavelength == pytest.approx(experiment.wavelength, rel=0.006)


def test_photons_follow_poisson_statistics(pad_experiment, monkeypatch):
    flat = Background(rings=(), air=20.0, air_decay=1e9)
    monkeypatch.setattr(module, "draw_background", lambda _experiment, _rng: flat)
    detector = replace(
        pad_experiment.detector, gain=100.0, dark_noise=0.0, saturation=10**6
    )
    # Far away, so that polarisation and solid angle matter little.
    experiment = replace(pad_experiment, detector=detector, distance=5e3, beam_loss=0.0)
    means, variances = [], []
    for seed in range(3):
        image = simulate_shot(experiment, Label.MISS, seed).image / 100
        tile = image[15:85, 15:95]
        mean = tile.mean()
        # In photons; the gain of pixels adds (2% of 20)^2.
        means.append(mean)
        variances.append(np.var(tile) / mean)
    assert np.mean(means) == pytest.approx(20, rel=0.1)
    assert np.mean(variances) == pytest.approx(1, abs=0.1)


def test_borders_between_asics_count_twice(pad_experiment, monkeypatch):
    flat = Background(rings=(), air=50.0, air_decay=1e9)
    monkeypatch.setattr(module, "draw_background", lambda _experiment, _rng: flat)
    experiment = replace(pad_experiment, beam_loss=0.0)
    image = simulate_shot(experiment, Label.MISS, 0).image
    assert image[10:90, 99].mean() / image[10:90, 97].mean() == pytest.approx(
        2, rel=0.1
    )
    assert image[10:90, 98].mean() / image[10:90, 97].mean() == pytest.approx(
        1, rel=0.1
    )


def test_a_miss_without_beam_is_dark(pad_experiment):
    dark = simulate_shot(replace(pad_experiment, beam_loss=1.0), Label.MISS, 0)
    assert len(dark.visible) == 0
    assert np.median(np.abs(dark.image)) <= 2.5 * 2
    lit = simulate_shot(replace(pad_experiment, beam_loss=0.0), Label.MISS, 0)
    assert lit.image.sum() > 5 * abs(dark.image.sum())


def test_hits_always_have_beam(pad_experiment):
    experiment = replace(pad_experiment, beam_loss=1.0)
    assert len(simulate_shot(experiment, Label.HIT, 1).visible) > 5


def test_number_of_visible_spots_drawn(ccd_experiment):
    rng = np.random.default_rng(0)
    experiment = replace(ccd_experiment, hit_spots=(10.0, 2000.0), few_spots=0.2)
    drawn = {
        aim: np.array([draw_visible_spots(experiment, aim, rng) for _ in range(4000)])
        for aim in Label
    }
    for aim, numbers in drawn.items():
        assert {label_from_spots(n) for n in numbers} == {aim}
    hits, misses = drawn[Label.HIT], drawn[Label.MISS]
    assert hits.min() == 10
    assert 1500 < hits.max() <= 2000
    # Even in the logarithm: the median is the geometric mean of 10 and 2000.
    assert np.median(hits) == pytest.approx(np.sqrt(20_000), rel=0.1)
    assert set(drawn[Label.MAYBE]) == {4, 5, 6, 7, 8, 9}
    assert np.mean(misses > 0) == pytest.approx(0.2, abs=0.03)
    assert misses.max() == 3


def test_backgrounds_are_within_the_experiments_ranges(ccd_experiment):
    rng = np.random.default_rng(0)
    experiment = replace(ccd_experiment, spike=0.5, shadow=(0.6, 0.95))
    drawn = [draw_background(experiment, rng) for _ in range(400)]
    assert all(0.6 <= b.kapton.transmission <= 0.95 for b in drawn)
    assert np.mean([bool(b.spikes) for b in drawn]) == pytest.approx(0.5, abs=0.08)
    rings = np.array([b.rings[0].peak for b in drawn])
    # The geometric mean of 20 and 200.
    assert np.median(rings) == pytest.approx(np.sqrt(4000), rel=0.2)
    assert np.mean([b.rings[0].d for b in drawn]) == pytest.approx(3.2, abs=0.01)


def test_no_shadow_and_spikes_where_there_are_none(ccd_experiment):
    experiment = replace(ccd_experiment, spike=0.0, shadow=None)
    background = draw_background(experiment, np.random.default_rng(0))
    assert background.kapton is None
    assert background.spikes == ()
