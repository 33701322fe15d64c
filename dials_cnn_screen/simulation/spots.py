"""Bragg spots on a detector: where they fall, how visible they are, their photons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from dials_cnn_screen.simulation.crystal import (
    Imperfection,
    excited_reflections,
    random_orientation,
)
from dials_cnn_screen.simulation.detector import Detector, tile_map
from dials_cnn_screen.simulation.experiments import Experiment

# A spot counts as visible when the chance that background alone gives as many photons
# is that of this many standard deviations: of the some three million places on a
# frame, fewer than one then looks like a spot by chance.
VISIBLE_SIGMA = 5.5
# Fewer photons a pixel than this count as this many: where there is nothing at all,
# four photons in one pixel or some seven side by side make a spot.
_LEAST_LEVEL = 0.02
# More photons than this of one spot, or of all, are placed in as many, heavier parcels.
_MAX_PARCELS, _MAX_ALL_PARCELS = 4000, 2_000_000


@dataclass(frozen=True)
class Spots:
    """Spots on the detector, arrays of length n.

    slow, fast: pixels. covariance: (n, 2, 2), pixels^2, in (slow, fast), before the
    detector's point spread. photons: relative, expected or drawn.
    """

    slow: np.ndarray
    fast: np.ndarray
    covariance: np.ndarray
    photons: np.ndarray

    def __len__(self) -> int:
        return len(self.slow)

    def with_photons(self, photons: np.ndarray) -> Spots:
        return replace(self, photons=photons)

    def chosen(self, which: np.ndarray) -> Spots:
        """The spots for which the bool array (n,) is true."""
        return Spots(
            self.slow[which],
            self.fast[which],
            self.covariance[which],
            self.photons[which],
        )


def no_spots() -> Spots:
    return Spots(np.empty(0), np.empty(0), np.empty((0, 2, 2)), np.empty(0))


def draw_spots(
    experiment: Experiment, wavelength: float, rng: np.random.Generator
) -> Spots:
    """Spots of one to three lattices in random orientation, of relative intensity."""
    chances = np.array(experiment.lattices) / sum(experiment.lattices)
    b_factor = rng.uniform(*experiment.b_factor)
    imperfection = Imperfection(
        domain_size=rng.uniform(*experiment.domain_size),
        mosaicity=np.exp(rng.uniform(*np.log(experiment.mosaicity))),
        bandwidth=rng.uniform(*experiment.bandwidth),
    )
    focus = rng.uniform(*experiment.focus)
    lattices = []
    for _ in range(1 + rng.choice(len(chances), p=chances)):
        reflections = excited_reflections(
            experiment.crystal,
            imperfection,
            random_orientation(rng),
            wavelength,
            experiment.d_min,
            b_factor,
            rng,
        )
        brightness = rng.lognormal(0.0, 0.7)
        lattices.append(
            _project(
                reflections.s,
                brightness * reflections.intensity,
                imperfection,
                focus,
                experiment,
                wavelength,
            )
        )
    return _streaked(joined(*lattices), rng.uniform(*experiment.streak), rng)


def joined(*parts: Spots) -> Spots:
    """The spots of all parts, one after the other."""
    return Spots(
        *(
            np.concatenate([getattr(spots, name) for spots in parts])
            for name in ("slow", "fast", "covariance", "photons")
        )
    )


def _streaked(spots: Spots, length: float, rng: np.random.Generator) -> Spots:
    """Spots smeared along one direction, as by stacking faults; length: sd, pixels."""
    direction = rng.uniform(0, np.pi)
    unit = np.array([np.sin(direction), np.cos(direction)])
    smear = length**2 * np.outer(unit, unit)
    return replace(spots, covariance=spots.covariance + smear)


def _project(
    s: np.ndarray,
    intensity: np.ndarray,
    imperfection: Imperfection,
    focus: float,
    experiment: Experiment,
    wavelength: float,
) -> Spots:
    """Spots that fall on lit, active pixels, with the shape that the crystal gives."""
    detector = experiment.detector
    scale = experiment.distance / detector.pixel_size
    along = 1 / wavelength + s[:, 2]
    forward = along > 0.1 / wavelength
    s, intensity, along = s[forward], intensity[forward], along[forward]
    x, y = scale * s[:, 0] / along, -scale * s[:, 1] / along
    slow, fast = detector.beam_centre[0] + y, detector.beam_centre[1] + x
    active = on_active_pixel(slow, fast, detector)
    s, intensity, x, y = s[active], intensity[active], x[active], y[active]

    radius = np.hypot(x, y)
    sin_theta = np.clip(0.5 * wavelength * np.linalg.norm(s, axis=1), 0, 0.99)
    tan_theta = sin_theta / np.sqrt(1 - sin_theta**2)
    # A mosaic block turned towards the beam reflects another wavelength at another
    # angle: what is narrower, mosaicity or bandwidth, limits the radial streak.
    turn = np.minimum(imperfection.mosaicity, tan_theta * imperfection.bandwidth)
    radial = 2 * turn * scale * (1 + (radius / scale) ** 2)
    tangential = imperfection.mosaicity * radius
    unit = np.stack([y, x], axis=1) / np.maximum(radius, 1e-9)[:, None]
    outward = unit[:, :, None] * unit[:, None, :]
    identity = np.eye(2)
    covariance = (
        focus**2 * identity
        + radial[:, None, None] ** 2 * outward
        + tangential[:, None, None] ** 2 * (identity - outward)
    )
    return Spots(slow[active], fast[active], covariance, intensity)


def on_active_pixel(
    slow: np.ndarray, fast: np.ndarray, detector: Detector
) -> np.ndarray:
    rows, columns = detector.shape[0] - detector.dead_bottom, detector.shape[1]
    inside = (slow >= 0) & (slow < rows) & (fast >= 0) & (fast < columns)
    tiles = tile_map(detector).numpy()
    inside[inside] = tiles[slow[inside].astype(int), fast[inside].astype(int)] >= 0
    return inside


def background_counts(
    spots: Spots, level: np.ndarray, noise: np.ndarray, psf: float, sharing: float = 0.0
) -> np.ndarray:
    """Background under each spot, in photons, as a matched filter sees it.

    level: expected background, photons a pixel, at each spot. noise: sd of a pixel's
    dark noise, photons. The point spread (radius psf, pixels) and the sharing of charge
    widen the spot and correlate the noise of the background's photons, but not the dark
    noise.
    """
    spread = point_spread(psf, sharing) * np.eye(2)
    # A pixel is a box of variance 1/12.
    shape = spots.covariance + np.eye(2) / 12 + spread
    area = _area(shape)
    level = np.maximum(level, _LEAST_LEVEL)
    return area**2 * (level / _area(shape + spread) + noise**2 / area)


def point_spread(psf: float, sharing: float) -> float:
    """Variance of a detector's point spread along either axis, pixels^2."""
    return (0.65 * psf) ** 2 + 2 * sharing


def distinct(spots: Spots, strength: np.ndarray, separation: float) -> np.ndarray:
    """Which spots are the strongest within the separation (pixels) of them, bool (n,).

    Of spots that are nearer to each other than that, one is left.
    """
    order = np.lexsort((strength, spots.slow))
    slow, fast, strong = spots.slow[order], spots.fast[order], strength[order]
    keep = np.ones(len(order), dtype=bool)
    for step in range(1, len(order)):
        near = slow[step:] - slow[:-step] < separation
        if not near.any():
            break
        near &= np.hypot(slow[step:] - slow[:-step], fast[step:] - fast[:-step]) < (
            separation
        )
        first_wins = strong[:-step] > strong[step:]
        keep[step:] &= ~(near & first_wins)
        keep[:-step] &= ~(near & ~first_wins)
    result = np.empty_like(keep)
    result[order] = keep
    return result


def _area(covariance: np.ndarray) -> np.ndarray:
    """Effective area of a Gaussian spot, 1 / sum(p^2), at least one pixel."""
    return np.maximum(4 * np.pi * np.sqrt(np.linalg.det(covariance)), 1.0)


def significance(photons: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Standard deviations by which photons stand out of their background.

    The likelihood ratio for a Poisson count, sqrt(2 (n ln(n / b) - (n - b))), which
    holds for a few photons over almost none as for many over many.
    """
    total = photons + background
    b = np.maximum(background, 1e-3)
    n = np.maximum(total, b)
    return np.sqrt(2 * np.maximum(n * np.log(n / b) - (n - b), 0.0))


def threshold_photons(background: np.ndarray) -> np.ndarray:
    """Photons that make a spot just visible over its background, by bisection."""
    low = np.zeros_like(background)
    high = 20 + 20 * np.sqrt(background)
    for _ in range(40):
        middle = 0.5 * (low + high)
        visible = significance(middle, background) >= VISIBLE_SIGMA
        low, high = np.where(visible, low, middle), np.where(visible, middle, high)
    return high


def brighten(
    spots: Spots, background: np.ndarray, n_visible: int, rng: np.random.Generator
) -> Spots:
    """Scale relative intensities so that n_visible of the spots are to be visible."""
    if not len(spots):
        return spots
    excess = np.sort(spots.photons / threshold_photons(background))[::-1]
    excess = np.append(excess, 0.0)
    n_visible = min(n_visible, max(1, len(spots) // 2))
    # Any scale between these two makes the same number visible.
    if n_visible:
        weakest, next_weaker = excess[n_visible - 1], excess[n_visible]
        step = rng.uniform() * np.log(min(weakest / max(next_weaker, 1e-9), 10.0))
        scale = np.exp(step) / weakest
    else:
        scale = rng.uniform(0.2, 0.9) / excess[0]
    return spots.with_photons(spots.photons * scale)


def scatter(
    spots: Spots, shape: tuple[int, int], rng: np.random.Generator
) -> torch.Tensor:
    """Place each spot's drawn photons one by one; photons float32 (slow, fast)."""
    photons = spots.photons.astype(int)
    most = min(_MAX_PARCELS, max(50, _MAX_ALL_PARCELS // max(1, len(spots))))
    parcels = np.minimum(photons, most)
    weight = np.repeat(photons / np.maximum(parcels, 1), parcels)
    spread = np.repeat(np.linalg.cholesky(spots.covariance), parcels, axis=0)
    step = np.einsum("nij,nj->ni", spread, rng.standard_normal((len(weight), 2)))
    slow = np.floor(np.repeat(spots.slow, parcels) + step[:, 0]).astype(int)
    fast = np.floor(np.repeat(spots.fast, parcels) + step[:, 1]).astype(int)
    inside = (slow >= 0) & (slow < shape[0]) & (fast >= 0) & (fast < shape[1])
    place = slow[inside] * shape[1] + fast[inside]
    image = np.bincount(place, weights=weight[inside], minlength=shape[0] * shape[1])
    return torch.from_numpy(image.reshape(shape).astype(np.float32))
