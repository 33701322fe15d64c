"""What a still shows beside Bragg spots: solvent, air, powder, jet spikes, shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from dials_cnn_screen.simulation.detector import Detector, offsets, radius_map

# Step of radial profiles, pixels: by hand, well below the width of any ring.
_STEP = 0.5
# How much more Kapton absorbs next to its edge, and how far from the edge that holds,
# pixels: by hand, after the shadow in Fig. 6(a).
_EDGE_EXCESS, _EDGE_LENGTH = 0.5, 150.0


@dataclass(frozen=True)
class Ring:
    """A ring around the beam, Gaussian in 1/d on either side of its peak.

    Attributes:
        d: Spacing, A.
        width: Standard deviation of the inner side, 1/A.
        peak: Photons per pixel.
        skew: Width of the outer side over that of the inner one. Rings of liquids fall
            off more slowly there; the default, for water, is by hand.
    """

    d: float
    width: float
    peak: float
    skew: float = 1.8


@dataclass(frozen=True)
class Spike:
    """A streak that the edges of a jet make through the beam, on both sides of it.

    Attributes:
        direction: Radians, from fast towards slow.
        half_width: Radians.
        length: Pixels within which it falls off to 1/e.
        photons: Per pixel, next to the beam.
    """

    direction: float
    half_width: float
    length: float
    photons: float


@dataclass(frozen=True)
class KaptonShadow:
    """The shadow of a Kapton belt, over one side of the frame.

    Attributes:
        transmission: Far from the edge of the belt.
        direction: From the beam towards the belt, radians, from fast towards slow.
        offset: Distance of the edge from the beam, pixels.
        softness: Of the edge, pixels.
    """

    transmission: float
    direction: float
    offset: float
    softness: float


@dataclass(frozen=True)
class Disc:
    """A round shadow, such as that of a beam stop.

    Attributes:
        centre: (slow, fast) from the beam, pixels.
        radius: Pixels.
        softness: Of its edge, pixels.
        transmission: Within.
    """

    centre: tuple[float, float]
    radius: float
    softness: float
    transmission: float


@dataclass(frozen=True)
class Bar:
    """A straight shadow, such as the arm of a beam stop or the edge of a nozzle.

    Attributes:
        direction: Of its length, radians, from fast towards slow.
        start: Where it begins along that direction, pixels from the beam.
        end: Where it ends along it, likewise.
        offset: Distance of its middle line from the beam, pixels.
        half_width: Pixels.
        softness: Of its edges, pixels.
        transmission: Within.
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
    """The smooth background of one shot.

    Attributes:
        rings: Of solvent, of powder, and parasitic ones.
        air: Photons per pixel near the beam.
        air_decay: 1/d within which the air scatter falls off to 1/e, 1/A.
        kapton: None where there is no belt.
        spikes: Of the jet.
        anisotropy: Amplitude with which the rings vary with twice the azimuth, over
            their mean, and the direction of their maximum, radians.
        uniform: Photons per pixel everywhere, such as fluorescence.
        discs: Round shadows.
        bars: Straight shadows.
    """

    rings: tuple[Ring, ...]
    air: float
    air_decay: float
    kapton: KaptonShadow | None = None
    spikes: tuple[Spike, ...] = ()
    anisotropy: tuple[float, float] = (0.0, 0.0)
    uniform: float = 0.0
    discs: tuple[Disc, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class BackgroundParameters:
    """How the backgrounds of an experiment's shots are distributed.

    The ranges of solvent, air and Kapton are those of the Experiment. The defaults are
    by hand.

    Attributes:
        solvent: Spacing (A) and width (standard deviation of 1/d, 1/A) of each diffuse
            ring; the default is water.
        fluctuation: Standard deviation of the logarithm of the brightness from shot to
            shot.
        parasitic: Sharp rings that are there whenever there is beam; their peaks are
            those of a mean shot.
        uniform: Photons per pixel everywhere, of a mean shot.
        anisotropy: Largest amplitude with the azimuth.
        jet: Mean direction of the spikes, radians.
        kapton: Mean direction (radians) and offset (pixels) of the belt's edge.
        discs: Round shadows, the same in each shot.
        bars: Straight shadows, likewise.
        powder: Spacings of ice or salt, A.
        powder_chance: That a shot shows some.
        powder_grains: Share of these shots that have single spots, not smooth rings.
    """

    solvent: tuple[tuple[float, float], ...] = ((3.2, 0.042),)
    fluctuation: float = 0.4
    parasitic: tuple[Ring, ...] = ()
    uniform: float = 0.0
    anisotropy: float = 0.0
    jet: float = 0.0
    kapton: tuple[float, float] = (math.pi, 20.0)
    discs: tuple[Disc, ...] = ()
    bars: tuple[Bar, ...] = ()
    powder: tuple[float, ...] = ()
    powder_chance: float = 0.0
    powder_grains: float = 0.0


def expected_photons(
    background: Background, detector: Detector, distance: float, wavelength: float
) -> torch.Tensor:
    """Expected photons of each pixel.

    The radial profile is dimmed by the horizontal polarisation of the beam,
    1 - (sin(2 theta) cos(phi))^2 (Kahn et al., 1982, J. Appl. Cryst. 15, 330), and by
    the solid angle of a pixel of a flat detector, cos^3(2 theta).

    Args:
        background: Of the shot.
        detector: Normal to the beam.
        distance: mm.
        wavelength: A.

    Returns:
        float32 (slow, fast).
    """
    radius = radius_map(detector)
    profile = _radial_profile(background, detector, distance, wavelength)
    photons = profile.take(_profile_bins(detector))  # (slow, fast)

    slow, fast = offsets(detector)  # (slow, 1), (1, fast)
    cos2 = (fast / radius.clamp(min=1.0)) ** 2
    amplitude, direction = background.anisotropy
    if amplitude:
        product = slow * fast / radius.clamp(min=1.0) ** 2
        turn = (2 * cos2 - 1) * math.cos(2 * direction)
        turn = turn + 2 * product * math.sin(2 * direction)
        photons *= 1 + amplitude * turn
    tan2 = (radius * detector.pixel_size / distance) ** 2
    photons *= 1 - tan2 / (1 + tan2) * cos2
    for spike in background.spikes:
        photons += _spike_photons(slow, fast, radius, spike)
    photons *= transmission(background, slow, fast)
    if detector.shadowed_rows:
        photons[-detector.shadowed_rows :] = 0
    return photons


def _radial_profile(
    background: Background, detector: Detector, distance: float, wavelength: float
) -> torch.Tensor:
    """Photons per pixel at radii of 0, 0.5, 1, ... pixels, float32 (radii,)."""
    farthest = float(radius_map(detector).max())
    r = torch.arange(0, farthest + 2 * _STEP, _STEP)
    two_theta = torch.atan(r * detector.pixel_size / distance)
    s = 2 * torch.sin(two_theta / 2) / wavelength
    profile = background.air * torch.exp(-s / background.air_decay)
    for ring in background.rings:
        width = torch.where(s < 1 / ring.d, ring.width, ring.skew * ring.width)
        profile += ring.peak * torch.exp(-0.5 * ((s - 1 / ring.d) / width) ** 2)
    return (profile + background.uniform) * torch.cos(two_theta) ** 3


@lru_cache(maxsize=4)
def _profile_bins(detector: Detector) -> torch.Tensor:
    """Index into the radial profile of each pixel, int64 (slow, fast)."""
    return (radius_map(detector) / _STEP).long()


def transmission(
    background: Background, slow: torch.Tensor, fast: torch.Tensor
) -> torch.Tensor:
    """Share of the photons that the shadows let through.

    Args:
        background: Of the shot.
        slow: Offsets from the beam, pixels.
        fast: Offsets from the beam, pixels, of a shape that broadcasts with slow.

    Returns:
        Of the broadcast shape, or (1, 1) without shadows.
    """
    share = torch.ones(1, 1)
    if background.kapton is not None:
        share = share * _through_kapton(slow, fast, background.kapton)
    for disc in background.discs:
        from_centre = (slow - disc.centre[0]) ** 2 + (fast - disc.centre[1]) ** 2
        depth = torch.sigmoid((disc.radius - from_centre.sqrt()) / disc.softness)
        share = share * (1 - (1 - disc.transmission) * depth)
    for bar in background.bars:
        share = share * _through_bar(slow, fast, bar)
    return share


def _along_and_across(
    slow: torch.Tensor, fast: torch.Tensor, direction: float
) -> tuple[torch.Tensor, torch.Tensor]:
    along = slow * math.sin(direction) + fast * math.cos(direction)
    across = fast * math.sin(direction) - slow * math.cos(direction)
    return along, across


def _spike_photons(
    slow: torch.Tensor, fast: torch.Tensor, radius: torch.Tensor, spike: Spike
) -> torch.Tensor:
    along, across = _along_and_across(slow, fast, spike.direction)
    breadth = 1.0 + spike.half_width * radius
    streak = torch.exp(-0.5 * (across / breadth) ** 2 - along.abs() / spike.length)
    return spike.photons * streak


def _through_kapton(
    slow: torch.Tensor, fast: torch.Tensor, kapton: KaptonShadow
) -> torch.Tensor:
    distance = _along_and_across(slow, fast, kapton.direction)[0] - kapton.offset
    behind = torch.sigmoid(distance / kapton.softness)
    # Kapton absorbs most where the rays run along it, next to its edge.
    depth = 1 + _EDGE_EXCESS * torch.exp(-(distance.clamp(min=0)) / _EDGE_LENGTH)
    return 1 - (1 - kapton.transmission) * depth * behind


def _through_bar(slow: torch.Tensor, fast: torch.Tensor, bar: Bar) -> torch.Tensor:
    along, across = _along_and_across(slow, fast, bar.direction)
    middle, half_length = 0.5 * (bar.start + bar.end), 0.5 * (bar.end - bar.start)
    depth = torch.minimum(
        half_length - (along - middle).abs(),
        bar.half_width - (across - bar.offset).abs(),
    )
    return 1 - (1 - bar.transmission) * torch.sigmoid(depth / bar.softness)
