"""What a still shows beside Bragg spots: solvent, air, jet spikes, shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dials_cnn_screen.simulation.detector import Detector, offsets, radius_map


@dataclass(frozen=True)
class Ring:
    """A diffuse ring: spacing (A), width as sd of 1/d (1/A), peak (photons a pixel)."""

    d: float
    width: float
    peak: float


@dataclass(frozen=True)
class Background:
    """Smooth scatter of one shot, photons a pixel.

    air: level near the beam, falling off with the length air_decay in 1/A. shadow:
    transmission of the half of the frame behind Kapton, its direction (radians), the
    offset of its edge from the beam and softness of the edge (pixels); None for none.
    spikes: (direction in radians, half width in radians, length in pixels, photons).
    """

    rings: tuple[Ring, ...]
    air: float
    air_decay: float
    shadow: tuple[float, float, float, float] | None = None
    spikes: tuple[tuple[float, float, float, float], ...] = ()


def expected_photons(
    background: Background, detector: Detector, distance: float, wavelength: float
) -> torch.Tensor:
    """Expected photons of each pixel, float32 (slow, fast); mm and A.

    The radial profile is dimmed by the horizontal polarisation of the beam and by the
    fall of a flat pixel's solid angle, cos^3(2 theta).
    """
    radius = radius_map(detector)
    step = 0.5
    r = torch.arange(0, float(radius.max()) + 2 * step, step)
    two_theta = torch.atan(r * detector.pixel_size / distance)
    s = 2 * torch.sin(two_theta / 2) / wavelength
    profile = background.air * torch.exp(-s / background.air_decay)
    for ring in background.rings:
        # Liquid rings fall off more slowly on the outer side.
        width = torch.where(s < 1 / ring.d, ring.width, 1.8 * ring.width)
        profile += ring.peak * torch.exp(-0.5 * ((s - 1 / ring.d) / width) ** 2)
    profile *= torch.cos(two_theta) ** 3
    photons = profile[(radius / step).long()]

    slow, fast = offsets(detector)
    sin2 = (radius * detector.pixel_size / distance) ** 2
    sin2 = sin2 / (1 + sin2)
    photons *= 1 - sin2 * (fast / radius.clamp(min=1.0)) ** 2
    for spike in background.spikes:
        photons += _spike(slow, fast, radius, *spike)
    if background.shadow is not None:
        photons *= _transmission(slow, fast, *background.shadow)
    if detector.dead_bottom:
        photons[-detector.dead_bottom :] = 0
    return photons


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
    along = slow * math.sin(direction) + fast * math.cos(direction)
    across = fast * math.sin(direction) - slow * math.cos(direction)
    breadth = 1.0 + half_width * radius
    streak = torch.exp(-0.5 * (across / breadth) ** 2 - along.abs() / length)
    return photons * streak


def _transmission(
    slow: torch.Tensor,
    fast: torch.Tensor,
    transmission: float,
    direction: float,
    offset: float,
    softness: float,
) -> torch.Tensor:
    distance = slow * math.sin(direction) + fast * math.cos(direction) - offset
    behind = torch.sigmoid(distance / softness)
    # Kapton absorbs most where the rays run along it, next to its edge.
    depth = 1 + 0.5 * torch.exp(-(distance.clamp(min=0)) / 150.0)
    return 1 - (1 - transmission) * depth * behind
