"""Bragg spots on a detector: where they fall, how visible they are, their photons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.simulation.crystal import (
    Imperfection,
    Reflections,
    excited_reflections,
    random_orientation,
)
from dials_cnn_screen.simulation.detector import Detector, tile_map
from dials_cnn_screen.simulation.draws import log_uniform
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.point_spread import point_spread_variance
from dials_cnn_screen.util.significance import poisson_significance

# A background of fewer photons per pixel than this counts as this much: where there is
# nothing at all, four photons in one pixel or some seven side by side make a spot. By
# hand.
_LEAST_LEVEL = 0.02
# The background under a spot is at least this, photons, where it is divided by: by
# hand, smaller than any that _LEAST_LEVEL leaves.
_LEAST_BACKGROUND = 1e-3
# More photons than this of one spot, or of all, are placed in as many, heavier parcels:
# by hand, to be quick; strong spots have a smooth shape anyway.
_MAX_PARCELS, _MAX_ALL_PARCELS = 4000, 2_000_000
# The crystals of a shot differ in brightness by this much, standard deviation of the
# logarithm: by hand.
_BRIGHTNESS_SPREAD = 0.7


@dataclass(frozen=True)
class Spots:
    """n spots on the detector.

    Attributes:
        slow: (n,), pixels from the corner of the first pixel.
        fast: (n,), pixels likewise.
        covariance: (n, 2, 2), in (slow, fast), before the point spread of the detector,
            pixels^2.
        photons: (n,), relative, expected or drawn.
    """

    slow: NDArray[np.float64]
    fast: NDArray[np.float64]
    covariance: NDArray[np.float64]
    photons: NDArray

    def __len__(self) -> int:
        return len(self.slow)

    def with_photons(self, photons: NDArray) -> Spots:
        """The same spots with other photons, (n,)."""
        return replace(self, photons=photons)

    def select(self, which: NDArray[np.bool_]) -> Spots:
        """The spots for which the array (n,) is true."""
        return Spots(
            self.slow[which],
            self.fast[which],
            self.covariance[which],
            self.photons[which],
        )

    def on_pixels(self, values: NDArray) -> NDArray:
        """Values (n,) of an array (slow, fast) at the pixels that the spots are on."""
        return values[self.slow.astype(int), self.fast.astype(int)]


def no_spots() -> Spots:
    """Spots of length 0."""
    return Spots(np.empty(0), np.empty(0), np.empty((0, 2, 2)), np.empty(0))


def draw_spots(
    experiment: Experiment, wavelength: float, rng: np.random.Generator
) -> Spots:
    """Spots of one to three lattices in random orientation, of relative intensity.

    Args:
        experiment: Its ranges are drawn from.
        wavelength: Of the shot, A.
        rng: Of the shot.
    """
    chances = np.array(experiment.lattices) / sum(experiment.lattices)
    b_factor = rng.uniform(*experiment.b_factor)
    imperfection = Imperfection(
        domain_size=rng.uniform(*experiment.domain_size),
        mosaicity=log_uniform(*experiment.mosaicity, rng),
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
        brightness = rng.lognormal(0.0, _BRIGHTNESS_SPREAD)
        spots = project(reflections, imperfection, focus, experiment, wavelength)
        lattices.append(spots.with_photons(brightness * spots.photons))
    return _smear(join_spots(*lattices), rng.uniform(*experiment.streak), rng)


def join_spots(*groups: Spots) -> Spots:
    """The spots of all groups, one after the other."""
    return Spots(
        *(
            np.concatenate([getattr(spots, name) for spots in groups])
            for name in ("slow", "fast", "covariance", "photons")
        )
    )


def _smear(spots: Spots, length: float, rng: np.random.Generator) -> Spots:
    """Smear spots along one direction, as stacking faults do; length: sd, pixels."""
    direction = rng.uniform(0, np.pi)
    unit = np.array([np.sin(direction), np.cos(direction)])
    smear = length**2 * np.outer(unit, unit)
    return replace(spots, covariance=spots.covariance + smear)


def project(
    reflections: Reflections,
    imperfection: Imperfection,
    focus: float,
    experiment: Experiment,
    wavelength: float,
) -> Spots:
    """Spots that fall on lit, active pixels, with the shape that the crystal gives.

    Args:
        reflections: Of one lattice, n.
        imperfection: Of the crystal.
        focus: Standard deviation of a spot of a perfect crystal, pixels.
        experiment: Has the distance and the detector.
        wavelength: Of the shot, A.

    Returns:
        At most n spots, with the intensities of the reflections.
    """
    s, intensity = reflections.s, reflections.intensity
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
    unit = np.stack([y, x], axis=1) / np.maximum(radius, 1e-9)[:, None]  # (n, 2)
    outward = unit[:, :, None] * unit[:, None, :]  # (n, 2, 2)
    identity = np.eye(2)
    covariance = (
        focus**2 * identity
        + radial[:, None, None] ** 2 * outward
        + tangential[:, None, None] ** 2 * (identity - outward)
    )
    return Spots(slow[active], fast[active], covariance, intensity)


def on_active_pixel(
    slow: NDArray[np.float64], fast: NDArray[np.float64], detector: Detector
) -> NDArray[np.bool_]:
    """Whether positions are on lit pixels of a tile, bool (n,).

    Args:
        slow: (n,), pixels.
        fast: (n,), pixels.
        detector: Its tiles and its shadowed rows.
    """
    rows, columns = detector.shape[0] - detector.shadowed_rows, detector.shape[1]
    inside = (slow >= 0) & (slow < rows) & (fast >= 0) & (fast < columns)
    tiles = tile_map(detector).numpy()
    inside[inside] = tiles[slow[inside].astype(int), fast[inside].astype(int)] >= 0
    return inside


def background_counts(
    spots: Spots,
    level: NDArray[np.floating],
    noise: NDArray[np.floating] | float,
    psf: float,
    sharing: float = 0.0,
) -> NDArray[np.float64]:
    """Background under each spot as a matched filter sees it.

    The point spread and the sharing of charge widen the spot and correlate the noise of
    the photons of the background, but not the dark noise.

    Args:
        spots: n.
        level: (n,), expected background at each spot, photons per pixel.
        noise: (n,) or one for all, standard deviation of a pixel's dark noise, photons.
        psf: Radius of the point spread, pixels.
        sharing: Share of a pixel's charge that spills over each of its edges.

    Returns:
        (n,), photons.
    """
    spread = point_spread_variance(psf, sharing) * np.eye(2)
    # A pixel is a box of variance 1/12.
    shape = spots.covariance + np.eye(2) / 12 + spread
    area = _effective_area(shape)
    level = np.maximum(level, _LEAST_LEVEL)
    return area**2 * (level / _effective_area(shape + spread) + noise**2 / area)


def _effective_area(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (n,) that a Gaussian spot covers, 1 / sum(p^2), at least one."""
    return np.maximum(4 * np.pi * np.sqrt(np.linalg.det(covariance)), 1.0)


def distinct(
    spots: Spots, strength: NDArray[np.float64], separation: float
) -> NDArray[np.bool_]:
    """Which spots are the strongest in their neighbourhood, bool (n,).

    Args:
        spots: n.
        strength: (n,); of equal neighbours one is left.
        separation: Spots nearer to each other than this are one to the eye, pixels.
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


def significance(
    photons: NDArray, background: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviations by which spots stand out of their background.

    Args:
        photons: Of each spot, above the background; of any shape.
        background: Under each spot, photons, of the same shape.
    """
    expected = np.maximum(background, _LEAST_BACKGROUND)
    counts = np.maximum(photons + background, expected)
    return poisson_significance(counts, expected)


def threshold_photons(
    background: NDArray[np.float64], sigma: float
) -> NDArray[np.float64]:
    """Photons (n,) that make a spot stand out by sigma, over (n,) of background."""
    low = np.zeros_like(background)
    high = sigma**2 * (1.0 + np.sqrt(background))
    # By bisection; 40 steps are as many bits.
    for _ in range(40):
        middle = 0.5 * (low + high)
        visible = significance(middle, background) >= sigma
        low, high = np.where(visible, low, middle), np.where(visible, middle, high)
    return high


def brighten(
    spots: Spots,
    threshold: NDArray[np.float64],
    n_visible: int,
    rng: np.random.Generator,
) -> Spots:
    """Scale relative intensities so that a number of the spots is expected visible.

    Args:
        spots: n, with relative intensities.
        threshold: (n,), photons that make each visible; infinite for one that can't be.
        n_visible: At most half of those that can become visible, or the only one.
        rng: Of the shot.

    Returns:
        The spots with expected photons; none where none can be visible.
    """
    can_be = np.isfinite(threshold)
    if not can_be.any():
        return spots.select(can_be)
    excess = np.sort(spots.photons[can_be] / threshold[can_be])[::-1]
    n_visible = min(n_visible, max(1, len(excess) // 2))
    excess = np.append(excess, 0.0)
    # Any scale between these two makes the same number visible.
    if n_visible:
        weakest, next_weaker = excess[n_visible - 1], excess[n_visible]
        step = rng.uniform() * np.log(min(weakest / max(next_weaker, 1e-9), 10.0))
        scale = np.exp(step) / weakest
    else:
        scale = rng.uniform(0.2, 0.9) / excess[0]
    return spots.with_photons(spots.photons * scale)


def place_photons(
    spots: Spots, shape: tuple[int, int], rng: np.random.Generator
) -> torch.Tensor:
    """Place the photons of each spot one by one.

    Args:
        spots: With drawn photons; those that fall off the frame are lost.
        shape: Of the frame, (slow, fast), pixels.
        rng: Of the shot.

    Returns:
        Photons of each pixel, float32 (slow, fast).
    """
    photons = spots.photons.astype(int)
    most = min(_MAX_PARCELS, max(50, _MAX_ALL_PARCELS // max(1, len(spots))))
    parcels = np.minimum(photons, most)
    weight = np.repeat(photons / np.maximum(parcels, 1), parcels)  # (all parcels,)
    spread = np.repeat(np.linalg.cholesky(spots.covariance), parcels, axis=0)
    step = np.einsum("nij,nj->ni", spread, rng.standard_normal((len(weight), 2)))
    slow = np.floor(np.repeat(spots.slow, parcels) + step[:, 0]).astype(int)
    fast = np.floor(np.repeat(spots.fast, parcels) + step[:, 1]).astype(int)
    inside = (slow >= 0) & (slow < shape[0]) & (fast >= 0) & (fast < shape[1])
    index = slow[inside] * shape[1] + fast[inside]
    image = np.bincount(index, weights=weight[inside], minlength=shape[0] * shape[1])
    return torch.from_numpy(image.reshape(shape).astype(np.float32))
