"""Powder rings of ice, salt, lipid and protein: smooth, or spots of single grains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.simulation.background import Ring
from dials_cnn_screen.simulation.crystal import Crystal, lattice_points
from dials_cnn_screen.simulation.detector import resolution_radius
from dials_cnn_screen.simulation.draws import log_uniform
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA, Experiment
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
# Edges of the cells of other powders (A), of salts and minerals or of protein, and how
# many rings they have at most: by hand.
_SMALL_EDGES, _PROTEIN_EDGES, _MOST_RINGS = (3.0, 14.0), (30.0, 120.0), 25
# How much brighter grains are than what is just visible, powers of ten: of most shots,
# and of the share of shots with coarse grains in a strong beam, where they are as
# bright as crystals that saturate the detector. By hand.
_BRIGHTNESS, _STRONG_BRIGHTNESS, _STRONG_SHARE = (-0.5, 1.5), (1.5, 3.5), 0.3
# Standard deviation of the logarithm of the grains' intensities in a shot: by hand.
_GRAIN_SIZES = (0.3, 2.0)
# The mean edge of the cell of a powder over its resolution limit: by hand, for some
# hundred rings to choose from.
_RESOLUTION = 6.0


def draw_powder(rng: np.random.Generator) -> tuple[float, ...]:
    """Spacings (A) of the rings of one substance: a common one, or any lattice."""
    kind = rng.choice(["common", "small cell", "protein"], p=[0.5, 0.35, 0.15])
    if kind == "common":
        return POWDERS[str(rng.choice(list(POWDERS)))]
    edges = _SMALL_EDGES if kind == "small cell" else _PROTEIN_EDGES
    return _lattice_spacings(edges, rng)


def _lattice_spacings(
    edges: tuple[float, float], rng: np.random.Generator
) -> tuple[float, ...]:
    """Spacings (A) of the stronger rings of a random lattice.

    A ring of many equivalent reflections is stronger, and so likelier to be among them.
    """
    a, b, c = (log_uniform(*edges, rng) for _ in range(3))
    system = rng.choice(["cubic", "tetragonal", "hexagonal", "orthorhombic"])
    if system != "orthorhombic":
        b = a
    if system == "cubic":
        c = a
    cell = (a, b, c, 90.0, 90.0, 120.0 if system == "hexagonal" else 90.0)
    crystal = Crystal(cell, str(rng.choice(["P", "I", "F"])))
    points = lattice_points(crystal, d_min=(a * b * c) ** (1 / 3) / _RESOLUTION)
    inverse, multiplicity = np.unique(
        np.linalg.norm(points, axis=1).round(6), return_counts=True
    )
    falloff = np.exp(-inverse / np.median(inverse))
    strength = multiplicity * falloff * rng.exponential(size=len(inverse))
    strongest = np.argsort(-strength)[: rng.integers(3, _MOST_RINGS + 1)]
    return tuple(float(d) for d in 1 / inverse[strongest])


def powder_rings(
    spacings: tuple[float, ...], level: float, rng: np.random.Generator
) -> tuple[Ring, ...]:
    """Smooth rings; how sharp and strong they are is by hand.

    Args:
        spacings: A.
        level: Photons per pixel of the scatter that they stand on.
        rng: Of the shot.
    """
    width = log_uniform(1e-4, 6e-3, rng)
    peak = level * log_uniform(0.1, 100.0, rng)
    return tuple(
        Ring(d, width * rng.uniform(0.8, 1.2), peak * rng.exponential(), skew=1.0)
        for d in spacings
    )


def draw_grains(
    experiment: Experiment, wavelength: float, most: int, rng: np.random.Generator
) -> Spots:
    """Spots of three grains or more, with relative intensities; half have many.

    They are where the rings of the powder are, arcs of a few to some tens of
    milliradians at most, and of any strength; in three frames of ten they have a
    preferred orientation. These sizes are by hand.

    Args:
        experiment: The spacings are those of its background.
        wavelength: Of the shot, A.
        most: Number of grains at most.
        rng: Of the shot.
    """
    detector = experiment.detector
    spacings = np.array(experiment.background.powder)
    fewest = 3 if rng.random() < 0.5 else most / 15
    n = int(log_uniform(fewest, most, rng))
    share = rng.exponential(size=len(spacings))
    ring = rng.choice(len(spacings), size=n, p=share / share.sum())
    radii = np.array(
        [
            resolution_radius(detector, d, experiment.distance, wavelength)
            for d in spacings
        ]
    )
    radius = radii[ring] * rng.normal(1, log_uniform(2e-4, 4e-3, rng), n)
    azimuth = _draw_azimuths(n, rng)[np.isfinite(radius)]
    radius = radius[np.isfinite(radius)]
    outward = np.stack([np.sin(azimuth), np.cos(azimuth)], axis=1)  # (n, 2)
    slow, fast = (np.array(detector.beam_centre) + radius[:, None] * outward).T
    active = on_active_pixel(slow, fast, detector)
    radial = outward[:, :, None] * outward[:, None, :]  # (n, 2, 2)
    arc = log_uniform(2e-4, 2e-2, rng) * radius
    covariance = rng.uniform(*experiment.focus) ** 2 * np.eye(2) + (
        arc[:, None, None] ** 2 * (np.eye(2) - radial)
    )
    intensity = rng.lognormal(0.0, rng.uniform(*_GRAIN_SIZES), len(radius))
    return Spots(slow[active], fast[active], covariance[active], intensity[active])


def _draw_azimuths(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Azimuths of n grains, radians."""
    azimuth = rng.uniform(0, 2 * np.pi, n)
    if rng.random() < 0.3:
        folds = rng.integers(1, 7)  # directions, evenly spaced
        preferred = (
            rng.uniform(0, 2 * np.pi) + 2 * np.pi * rng.integers(0, folds, n) / folds
        )
        azimuth = preferred + rng.vonmises(0, log_uniform(0.5, 20, rng), n)
    return azimuth


def brighten_grains(
    grains: Spots, background: NDArray[np.float64], rng: np.random.Generator
) -> Spots:
    """Draw the photons of the grains, a third to 3000 times what is just visible.

    Args:
        grains: n spots with relative intensities.
        background: (n,), photons under each.
        rng: Of the shot.
    """
    strong = rng.random() < _STRONG_SHARE
    scale = 10 ** rng.uniform(*(_STRONG_BRIGHTNESS if strong else _BRIGHTNESS))
    photons = scale * grains.photons * threshold_photons(background, VISIBLE_SIGMA)
    return replace(grains, photons=rng.poisson(photons))
