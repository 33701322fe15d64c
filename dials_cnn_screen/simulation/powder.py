"""Ice and salt: smooth rings, or single spots of grains on them, never protein."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.simulation.background import Ring
from dials_cnn_screen.simulation.detector import resolution_radius
from dials_cnn_screen.simulation.draws import log_uniform
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.spots import Spots, on_active_pixel, threshold_photons

# Spacings (A) of strong lines of what is often seen: ice, salts of crystallisation and
# others, by hand from common tables. Silver behenate: orders of 58.38 A (Huang et al.,
# 1993, J. Appl. Cryst. 26, 180).
POWDERS = {
    "ice": (3.90, 3.67, 3.44, 2.67, 2.25, 2.07, 1.95, 1.92, 1.88, 1.72),
    "cubic ice": (3.67, 2.25, 1.92),
    "sodium chloride": (3.26, 2.82, 1.99, 1.70, 1.63, 1.41),
    "ammonium sulphate": (5.22, 4.39, 4.33, 3.90, 3.14, 3.06, 2.67, 2.32, 2.17),
    "sodium sulphate": (4.66, 3.84, 3.18, 3.08, 2.78, 2.65, 2.33, 1.87),
    "calcium phosphate": (8.17, 5.26, 4.07, 3.44, 2.81, 2.78, 2.72, 2.26, 1.94),
    "magnesium sulphate": (5.98, 5.34, 4.48, 4.21, 3.79, 2.88, 2.68, 2.66),
    "silver behenate": (58.4, 29.2, 19.5, 14.6, 11.7, 9.73, 8.34),
    "lipid": (4.55, 4.15),
}


def powder_rings(
    spacings: tuple[float, ...], level: float, rng: np.random.Generator
) -> tuple[Ring, ...]:
    """Smooth rings; how sharp and strong they are is by hand.

    Args:
        spacings: A.
        level: Photons per pixel of the scatter that they stand on.
        rng: Of the shot.
    """
    width = log_uniform(4e-4, 6e-3, rng)
    peak = level * log_uniform(0.1, 8.0, rng)
    return tuple(
        Ring(d, width * rng.uniform(0.8, 1.2), peak * rng.exponential(), skew=1.0)
        for d in spacings
    )


def draw_grains(
    experiment: Experiment, wavelength: float, rng: np.random.Generator
) -> Spots:
    """Spots of three to three hundred grains, with relative intensities.

    They are where the rings of the powder are, arcs of a few to some tens of
    milliradians at most, and of any strength. These sizes are by hand.

    Args:
        experiment: The spacings are those of its background.
        wavelength: Of the shot, A.
        rng: Of the shot.
    """
    detector = experiment.detector
    n = int(log_uniform(3, 300, rng))
    d = rng.choice(experiment.background.powder, size=n)
    d = d * rng.normal(1, log_uniform(2e-4, 4e-3, rng), n)
    radius = np.array(
        [resolution_radius(detector, x, experiment.distance, wavelength) for x in d]
    )
    azimuth = rng.uniform(0, 2 * np.pi, n)[np.isfinite(radius)]
    radius = radius[np.isfinite(radius)]
    outward = np.stack([np.sin(azimuth), np.cos(azimuth)], axis=1)  # (n, 2)
    slow, fast = (np.array(detector.beam_centre) + radius[:, None] * outward).T
    active = on_active_pixel(slow, fast, detector)
    radial = outward[:, :, None] * outward[:, None, :]  # (n, 2, 2)
    arc = log_uniform(2e-4, 2e-2, rng) * radius
    covariance = rng.uniform(*experiment.focus) ** 2 * np.eye(2) + (
        arc[:, None, None] ** 2 * (np.eye(2) - radial)
    )
    intensity = rng.exponential(size=len(radius))
    return Spots(slow[active], fast[active], covariance[active], intensity[active])


def brighten_grains(
    grains: Spots, background: NDArray[np.float64], rng: np.random.Generator
) -> Spots:
    """Draw the photons of the grains, a third to thirty times what is just visible.

    Args:
        grains: n spots with relative intensities.
        background: (n,), photons under each.
        rng: Of the shot.
    """
    scale = 10 ** rng.uniform(-0.5, 1.5)
    photons = scale * grains.photons * threshold_photons(background)
    return replace(grains, photons=rng.poisson(photons))
