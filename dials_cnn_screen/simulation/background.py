"""What a still shows beside Bragg spots: solvent, air, powder, jet spikes, shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from dials_cnn_screen.simulation.detector import Detector, offsets, radius_map

# Step of radial profiles, pixels.
_STEP = 0.5


@dataclass(frozen=True)
class Ring:
    """A ring: spacing (A), width as sd of 1/d (1/A), peak (photons a pixel).

    skew: width of the outer side over that of the inner; liquid rings fall off more
    slowly there.
    """

    d: float
    width: float
    peak: float
    skew: float = 1.8


@dataclass(frozen=True)
class Disc:
    """A round shadow: centre (slow, fast) from the beam, radius, softness (pixels)."""

    centre: tuple[float, float]
    radius: float
    softness: float
    transmission: float


@dataclass(frozen=True)
class Bar:
    """A straight shadow, such as the arm of a beam stop or the edge of a nozzle.

    It lies along a direction (radians, from fast towards slow), between start and end
    (pixels along it from the beam), half_width wide on both sides of a line that passes
    the beam at the distance offset; softness of its edges: pixels.
    """

    direction: float
    start: float
    end: float
    offset: float
    half_width: float
    softness: float
    transmission: float


@dataclass(frozen=True)
class Background:
    """Smooth scatter of one shot, photons a pixel.

    air: level near the beam, falling off with the length air_decay in 1/A. shadow:
    transmission of the half of the frame behind Kapton, its direction (radians), the
    offset of its edge from the beam and softness of the edge (pixels); None for none.
    spikes: (direction in radians, half width in radians, length in pixels, photons).
    texture: amplitude of what the rings vary with twice the azimuth and the direction
    of their maximum (radians). even: photons everywhere, such as fluorescence.
    """

    rings: tuple[Ring, ...]
    air: float
    air_decay: float
    shadow: tuple[float, float, float, float] | None = None
    spikes: tuple[tuple[float, float, float, float], ...] = ()
    texture: tuple[float, float] = (0.0, 0.0)
    even: float = 0.0
    discs: tuple[Disc, ...] = ()
    bars: tuple[Bar, ...] = ()


@lru_cache(maxsize=4)
def _bins(detector: Detector) -> torch.Tensor:
    return (radius_map(detector) / _STEP).long()


def expected_photons(
    background: Background, detector: Detector, distance: float, wavelength: float
) -> torch.Tensor:
    """Expected photons of each pixel, float32 (slow, fast); mm and A.

    The radial profile is dimmed by the horizontal polarisation of the beam and by the
    fall of a flat pixel's solid angle, cos^3(2 theta).
    """
    radius = radius_map(detector)
    r = torch.arange(0, float(radius.max()) + 2 * _STEP, _STEP)
    two_theta = torch.atan(r * detector.pixel_size / distance)
    s = 2 * torch.sin(two_theta / 2) / wavelength
    profile = background.air * torch.exp(-s / background.air_decay)
    for ring in background.rings:
        width = torch.where(s < 1 / ring.d, ring.width, ring.skew * ring.width)
        profile += ring.peak * torch.exp(-0.5 * ((s - 1 / ring.d) / width) ** 2)
    profile = (profile + background.even) * torch.cos(two_theta) ** 3
    photons = profile.take(_bins(detector))

    slow, fast = offsets(detector)
    x2 = (fast / radius.clamp(min=1.0)) ** 2
    amplitude, direction = background.texture
    if amplitude:
        xy = slow * fast / radius.clamp(min=1.0) ** 2
        turn = (2 * x2 - 1) * math.cos(2 * direction) + 2 * xy * math.sin(2 * direction)
        photons *= 1 + amplitude * turn
    sin2 = (radius * detector.pixel_size / distance) ** 2
    photons *= 1 - sin2 / (1 + sin2) * x2
    for spike in background.spikes:
        photons += _spike(slow, fast, radius, *spike)
    photons *= transmission(background, slow, fast)
    if detector.dead_bottom:
        photons[-detector.dead_bottom :] = 0
    return photons


def transmission(
    background: Background, slow: torch.Tensor, fast: torch.Tensor
) -> torch.Tensor:
    """Share of the photons that shadows let through at offsets from the beam, pixels.

    slow, fast: shapes that broadcast; so does the result, at least to (1, 1).
    """
    share = torch.ones(1, 1)
    if background.shadow is not None:
        share = share * _behind_kapton(slow, fast, *background.shadow)
    for disc in background.discs:
        centre = (slow - disc.centre[0]) ** 2 + (fast - disc.centre[1]) ** 2
        depth = torch.sigmoid((disc.radius - centre.sqrt()) / disc.softness)
        share = share * (1 - (1 - disc.transmission) * depth)
    for bar in background.bars:
        share = share * _behind_bar(slow, fast, bar)
    return share


def _along_and_across(
    slow: torch.Tensor, fast: torch.Tensor, direction: float
) -> tuple[torch.Tensor, torch.Tensor]:
    along = slow * math.sin(direction) + fast * math.cos(direction)
    across = fast * math.sin(direction) - slow * math.cos(direction)
    return along, across


def _spike(
    slow: torch.Tensor,
    fast: torch.Tensor,
    radius: torch.Tensor,
    direction: float,
    half_width: float,
    length: float,
    photons: float,
) -> torch.Tensor:
    """A streak of the jet's edges through the beam, on both sides of it."""
    along, across = _along_and_across(slow, fast, direction)
    breadth = 1.0 + half_width * radius
    streak = torch.exp(-0.5 * (across / breadth) ** 2 - along.abs() / length)
    return photons * streak


def _behind_kapton(
    slow: torch.Tensor,
    fast: torch.Tensor,
    transmission: float,
    direction: float,
    offset: float,
    softness: float,
) -> torch.Tensor:
    distance = _along_and_across(slow, fast, direction)[0] - offset
    behind = torch.sigmoid(distance / softness)
    # Kapton absorbs most where the rays run along it, next to its edge.
    depth = 1 + 0.5 * torch.exp(-(distance.clamp(min=0)) / 150.0)
    return 1 - (1 - transmission) * depth * behind


def _behind_bar(slow: torch.Tensor, fast: torch.Tensor, bar: Bar) -> torch.Tensor:
    along, across = _along_and_across(slow, fast, bar.direction)
    middle, half_length = 0.5 * (bar.start + bar.end), 0.5 * (bar.end - bar.start)
    depth = torch.minimum(
        half_length - (along - middle).abs(),
        bar.half_width - (across - bar.offset).abs(),
    )
    return 1 - (1 - bar.transmission) * torch.sigmoid(depth / bar.softness)


@dataclass(frozen=True)
class Scenery:
    """What an experiment's shots show beyond solvent, air, spikes and Kapton.

    solvent: spacing (A) and width (sd of 1/d, 1/A) of the diffuse rings. fluctuation:
    sd of the logarithm of the brightness from shot to shot. parasitic: sharp rings
    that are there whenever there is beam; their peaks are those of a mean shot. even:
    photons a pixel, of a mean shot. texture: largest amplitude with the azimuth.
    jet: direction of the spikes, radians. kapton: mean direction and offset of the
    Kapton's edge, radians and pixels. discs, bars: fixed shadows. powder: spacings (A)
    of ice or salt. powder_chance: that a shot shows some. powder_grains: share of the
    powder's shots that have single spots rather than smooth rings.
    """

    solvent: tuple[tuple[float, float], ...] = ((3.2, 0.042),)
    fluctuation: float = 0.4
    parasitic: tuple[Ring, ...] = ()
    even: float = 0.0
    texture: float = 0.0
    jet: float = 0.0
    kapton: tuple[float, float] = (math.pi, 20.0)
    discs: tuple[Disc, ...] = ()
    bars: tuple[Bar, ...] = ()
    powder: tuple[float, ...] = ()
    powder_chance: float = 0.0
    powder_grains: float = 0.0
