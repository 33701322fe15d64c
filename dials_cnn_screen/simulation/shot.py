"""One simulated shot: beam, background, crystals, photons, detector, and the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from dials_cnn_screen.labels import HIT_SPOTS, MAYBE_SPOTS, Label, label_from_spots
from dials_cnn_screen.simulation.background import Background, Ring, expected_photons
from dials_cnn_screen.simulation.detector import (
    Detector,
    blur,
    border_map,
    read_out,
    resolution_radius,
)
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.spots import (
    VISIBLE_SIGMA,
    Spots,
    background_counts,
    brighten,
    draw_spots,
    no_spots,
    scatter,
    significance,
)

# Hits have up to this many visible spots, drawn evenly in the logarithm.
_MOST_SPOTS = 500


@dataclass(frozen=True)
class Shot:
    """A simulated still and the truth about it.

    image: int32 (slow, fast), ADU. visible: (n, 2) places (slow, fast) of the visible
    spots, pixels. wavelength: A. distance: mm.
    """

    image: np.ndarray
    visible: np.ndarray
    wavelength: float
    distance: float

    @property
    def label(self) -> Label:
        return label_from_spots(len(self.visible))


def simulate_shot(experiment: Experiment, aim: Label, seed: int) -> Shot:
    """Draw one shot that is to be of class aim; the same seed gives the same shot.

    The number of visible spots is drawn first and the crystal's brightness follows, so
    that weak hits are as common as strong ones. Photons are then drawn, and the shot's
    label counts the spots whose drawn photons are visible: it can differ from aim.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    detector = experiment.detector
    wavelength = experiment.wavelength * rng.normal(1.0, 0.001)
    beam = aim is not Label.MISS or rng.random() >= experiment.beam_loss
    background = draw_background(experiment, rng) if beam else NO_BEAM
    expected = expected_photons(
        background, detector, experiment.distance, wavelength
    ) * border_map(detector)
    low_gain = _low_gain_radius(experiment, wavelength)

    spots, counts = no_spots(), np.empty(0)
    n_visible = draw_visible_spots(aim, rng)
    # One miss in ten has a crystal that is too weak to see.
    if beam and (n_visible or rng.random() < 0.1):
        spots = draw_spots(experiment, wavelength, rng)
        counts = _background_under(spots, expected, detector, low_gain)
        spots = brighten(spots, counts, n_visible, rng)
        spots = spots.with_photons(rng.poisson(spots.photons))
    seen = significance(spots.photons, counts) >= VISIBLE_SIGMA

    photons = torch.poisson(expected, generator=generator)
    if len(spots):
        photons += scatter(spots, detector.shape, rng)
    if detector.psf:
        photons = blur(photons, detector.psf)
    image = read_out(photons, detector, low_gain, generator)
    visible = np.stack([spots.slow[seen], spots.fast[seen]], axis=1)
    return Shot(image.numpy(), visible, wavelength, experiment.distance)


NO_BEAM = Background(rings=(), air=0.0, air_decay=1.0)


def draw_background(experiment: Experiment, rng: np.random.Generator) -> Background:
    """Solvent ring (3.2 A) and air scatter, with jet spikes and Kapton shadow."""
    brightness = rng.lognormal(0.0, 0.4)
    ring = Ring(
        d=rng.normal(3.2, 0.05),
        width=rng.uniform(0.035, 0.05),
        peak=brightness * _log_uniform(experiment.ring, rng),
    )
    shadow = None
    if experiment.shadow is not None:
        shadow = (
            rng.uniform(*experiment.shadow),
            rng.normal(math.pi, 0.03),
            rng.uniform(-20, 60),
            rng.uniform(3, 12),
        )
    spikes = ()
    if rng.random() < experiment.spike:
        direction = rng.normal(0.0, 0.15)
        spikes = tuple(
            (
                direction + rng.normal(0, 0.03),
                rng.uniform(0.002, 0.02),
                rng.uniform(15, 80),
                ring.peak * rng.lognormal(2.0, 1.0),
            )
            for _ in range(rng.integers(1, 4))
        )
    return Background(
        rings=(ring,),
        air=brightness * _log_uniform(experiment.air, rng),
        air_decay=rng.uniform(0.06, 0.2),
        shadow=shadow,
        spikes=spikes,
    )


def draw_visible_spots(aim: Label, rng: np.random.Generator) -> int:
    """How many spots are to be visible: of misses, one in five has one to three."""
    if aim is Label.HIT:
        return int(np.exp(rng.uniform(np.log(HIT_SPOTS), np.log(_MOST_SPOTS))))
    if aim is Label.MAYBE:
        return int(rng.integers(MAYBE_SPOTS, HIT_SPOTS))
    return int(rng.integers(1, MAYBE_SPOTS)) if rng.random() < 0.2 else 0


def _background_under(
    spots: Spots, expected: torch.Tensor, detector: Detector, low_gain: float
) -> np.ndarray:
    level = expected.numpy()[spots.slow.astype(int), spots.fast.astype(int)]
    radius = np.hypot(
        spots.slow - detector.beam_centre[0], spots.fast - detector.beam_centre[1]
    )
    noise = detector.dark_noise / detector.gain * np.where(radius < low_gain, 7.0, 1.0)
    return background_counts(spots, level, noise, detector.psf)


def _low_gain_radius(experiment: Experiment, wavelength: float) -> float:
    d = experiment.detector.low_gain_d_min
    if d is None:
        return 0.0
    return resolution_radius(experiment.detector, d, experiment.distance, wavelength)


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
