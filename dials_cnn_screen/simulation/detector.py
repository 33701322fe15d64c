"""Detectors: where pixels are, and how photons become ADU."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from dials_cnn_screen.simulation.defects import Flaws, draw_faults

# Corners (slow, fast) and direction of the 32 two-by-one modules of the CSPAD in the
# monolithic array of CXIDB-76, read off the untrusted-pixel mask deposited for LG36.
# Each module is two ASICs of 185 x 194 pixels, three pixels apart in its direction.
_CSPAD_MODULES = """
24 1279 h, 25 858 v, 26 1065 v, 99 20 v, 100 230 v, 119 447 h, 232 1278 h, 328 450 h,
446 856 h, 448 1258 v, 448 1463 v, 524 23 h, 527 448 v, 527 655 v, 654 856 h, 731 24 h,
855 937 v, 855 1143 v, 856 1361 h, 936 127 v, 936 335 v, 937 532 h, 1060 1361 h,
1142 532 h, 1257 935 h, 1276 1359 v, 1285 1566 v, 1359 106 h, 1360 734 v, 1361 531 v,
1463 934 h, 1573 101 h
"""
ASIC_SHORT, ASIC_LONG, ASIC_PITCH = 185, 194, 197

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Detector:
    """A flat detector normal to the beam, or a window of one.

    shape, beam_centre: (slow, fast) pixels; the beam may be off the frame. pixel_size:
    mm. gain: ADU a photon. dark_noise: standard deviation of a pixel, ADU. pedestal,
    saturation, min_trusted: ADU. psf: radius g of the point spread of a fibre-coupled
    CCD, pixels, 0 for none. active_areas: (slow, fast, slow, fast) corners, end
    exclusive; empty for all. hole_radius: pixels. low_gain_d_min: A, resolution within
    which pixels were in low-gain mode; low_gain_steps: what these were scaled up by on
    writing, 7 for a CSPAD. dead_bottom: the lowest rows in shadow, pixels.

    family: such as cspad or rayonix. flaws: what is wrong with its pixels. counting:
    each photon is counted in one pixel, without noise, and gain is 1. sharing: share of
    a pixel's charge that spills over each of its edges. seam_area: size of the pixels
    on either side of a gap of one to three pixels between tiles, of a common one.
    masked_border: edge of each active area that users mask, pixels. masked_radius:
    radius around the beam that users mask, pixels. gap_value: what the file has in
    gaps and known dead pixels.
    """

    shape: tuple[int, int]
    pixel_size: float
    beam_centre: tuple[float, float]
    gain: float
    dark_noise: float
    pedestal: float
    saturation: int
    min_trusted: int
    psf: float = 0.0
    active_areas: tuple[Rectangle, ...] = ()
    hole_radius: float = 0.0
    low_gain_d_min: float | None = None
    low_gain_steps: float = 7.0
    dead_bottom: int = 0
    family: str = ""
    flaws: Flaws = field(default_factory=Flaws)
    counting: bool = False
    sharing: float = 0.0
    seam_area: float = 2.0
    masked_border: int = 1
    masked_radius: float = 0.0
    gap_value: int = 0


def cspad_areas() -> tuple[Rectangle, ...]:
    """The 64 ASICs of the CSPAD in the 1765 x 1765 array, (slow, fast, slow, fast)."""
    areas = []
    for module in _CSPAD_MODULES.replace("\n", " ").split(","):
        slow, fast, direction = module.split()
        for step in (0, ASIC_PITCH):
            if direction == "h":
                y, x = int(slow), int(fast) + step
                areas.append((y, x, y + ASIC_SHORT, x + ASIC_LONG))
            else:
                y, x = int(slow) + step, int(fast)
                areas.append((y, x, y + ASIC_LONG, x + ASIC_SHORT))
    return tuple(areas)


def tile_corners(detector: Detector) -> tuple[Rectangle, ...]:
    """The tiles: the active areas, or else the four quadrants of a CCD."""
    if detector.active_areas:
        return detector.active_areas
    rows, columns = detector.shape
    y, x = rows // 2, columns // 2
    return (0, 0, y, x), (0, x, y, columns), (y, 0, rows, x), (y, x, rows, columns)


@lru_cache(maxsize=4)
def tile_map(detector: Detector) -> torch.Tensor:
    """Number of each pixel's tile, int16 (slow, fast); -1 where nothing is read."""
    tiles = np.full(detector.shape, -1, dtype=np.int16)
    for number, (y0, x0, y1, x1) in enumerate(tile_corners(detector)):
        tiles[y0:y1, x0:x1] = number
    if detector.hole_radius:
        tiles[radius_map(detector).numpy() < detector.hole_radius] = -1
    return torch.from_numpy(tiles)


@lru_cache(maxsize=4)
def radius_map(detector: Detector) -> torch.Tensor:
    """Distance of each pixel from the beam centre in pixels, float32 (slow, fast)."""
    slow, fast = offsets(detector)
    return torch.sqrt(slow**2 + fast**2)


def offsets(detector: Detector) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets of pixel centres from the beam, (slow, 1) and (1, fast), pixels."""
    slow = torch.arange(detector.shape[0]) + 0.5 - detector.beam_centre[0]
    fast = torch.arange(detector.shape[1]) + 0.5 - detector.beam_centre[1]
    return slow[:, None].float(), fast[None, :].float()


@lru_cache(maxsize=4)
def border_map(detector: Detector) -> torch.Tensor:
    """Sensitive area of each pixel over that of a common one, float32 (slow, fast).

    The facing rows of the two ASICs of a CSPAD module also collect the charge of the
    gap between them and count about twice (section 3.2); other detectors have such
    pixels too.
    """
    area = np.ones(detector.shape, dtype=np.float32)
    if not detector.active_areas:
        return torch.from_numpy(area)
    tiles = tile_map(detector).numpy()
    for tile, wide in ((tiles, area), (tiles.T, area.T)):
        for step in (2, 3, 4):
            facing = (tile[:-step] >= 0) & (tile[step:] >= 0)
            for between in range(1, step):
                facing &= tile[between : between - step] < 0
            wide[:-step][facing] = wide[step:][facing] = detector.seam_area
    return torch.from_numpy(area)


@lru_cache(maxsize=4)
def gain_map(detector: Detector) -> torch.Tensor:
    """Gain of each pixel over the mean, float32 (slow, fast)."""
    generator = torch.Generator().manual_seed(detector.flaws.seed)
    spread = torch.randn(detector.shape, generator=generator)
    return 1 + detector.flaws.pixel_gain * spread


@lru_cache(maxsize=4)
def offset_map(detector: Detector) -> torch.Tensor:
    """Pedestal of each pixel, ADU, float32 (slow, fast)."""
    flaws = detector.flaws
    generator = torch.Generator().manual_seed(flaws.seed + 1)
    offset = torch.full(detector.shape, float(detector.pedestal))
    if flaws.pixel_offset:
        offset += flaws.pixel_offset * torch.randn(detector.shape, generator=generator)
    if flaws.tile_steps:
        for y0, x0, y1, x1 in tile_corners(detector):
            step = flaws.tile_steps * torch.randn(1, generator=generator)
            offset[y0:y1, x0:x1] += step
    return offset


@lru_cache(maxsize=4)
def noise_profile(detector: Detector) -> torch.Tensor:
    """Dark noise of the pixels around over the detector's, float32 (slow, fast).

    Tiles differ, and one in four is noisier towards one of its edges.
    """
    flaws = detector.flaws
    rng = np.random.default_rng(flaws.seed + 2)
    profile = np.ones(detector.shape, dtype=np.float32)
    for y0, x0, y1, x1 in tile_corners(detector):
        block = profile[y0:y1, x0:x1]
        block *= rng.lognormal(0, flaws.noise_steps)
        if flaws.edge_noise and rng.random() < 0.25:
            turned = np.rot90(block, rng.integers(4))
            length = rng.uniform(0.05, 0.4) * len(turned)
            rise = np.exp(-np.arange(len(turned)) / length)
            turned *= 1 + flaws.edge_noise * rise[:, None]
    return torch.from_numpy(profile)


@lru_cache(maxsize=4)
def noise_map(detector: Detector) -> torch.Tensor:
    """Dark noise of each pixel over the detector's, float32 (slow, fast)."""
    generator = torch.Generator().manual_seed(detector.flaws.seed + 3)
    spread = torch.randn(detector.shape, generator=generator)
    return noise_profile(detector) * torch.exp(detector.flaws.pixel_noise * spread)


@lru_cache(maxsize=4)
def faults(detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Fault of each pixel, uint8 (slow, fast), and whether it is known, bool."""
    return draw_faults(detector.flaws, detector.shape)


@lru_cache(maxsize=4)
def known_good(detector: Detector) -> np.ndarray:
    """Mask that users have before a shot is taken, bool (slow, fast), True = use.

    Without gaps, borders of active areas, what is known to be bad, and what is masked
    around the beam.
    """
    border = detector.masked_border if detector.active_areas else 0
    good = np.zeros(detector.shape, dtype=bool)
    for number, (y0, x0, y1, x1) in enumerate(tile_corners(detector)):
        if number not in detector.flaws.dead_tiles:
            good[y0 + border : y1 - border, x0 + border : x1 - border] = True
    _, known = faults(detector)
    radius = radius_map(detector).numpy()
    return good & ~known & (radius >= max(detector.hole_radius, detector.masked_radius))


def resolution_radius(
    detector: Detector, d: float, distance: float, wavelength: float
) -> float:
    """Radius in pixels of the ring of spacing d (A); distance in mm, wavelength A."""
    two_theta = 2 * math.asin(min(1.0, wavelength / (2 * d)))
    if two_theta >= math.pi / 2:
        return math.inf
    return distance * math.tan(two_theta) / detector.pixel_size


def blur(photons: torch.Tensor, psf: float) -> torch.Tensor:
    """Spread photons (slow, fast) by the point spread of a fibre-coupled CCD.

    The profile is g / (2 pi (r^2 + g^2)^(3/2)), Holton et al. (2012), J. Synchrotron
    Rad. 19, 1006, with g = psf in pixels, integrated over pixels, cut at 32 pixels.
    """
    reach = 32
    kernel = _psf_kernel(psf, reach)
    shape = [n + 2 * reach for n in photons.shape]
    product = torch.fft.rfft2(photons, s=shape) * torch.fft.rfft2(kernel, s=shape)
    spread = torch.fft.irfft2(product, s=shape)
    rows, columns = photons.shape
    return spread[reach : reach + rows, reach : reach + columns].clamp_(min=0)


@lru_cache(maxsize=64)
def _psf_kernel(g: float, reach: int) -> torch.Tensor:
    # The cumulative form of the profile is known in closed form, so that a pixel's
    # share is exact however narrow the core: the integral from the origin to (x, y) is
    # atan(x y / (g sqrt(x^2 + y^2 + g^2))) / (2 pi).
    edge = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
    x, y = edge[None, :], edge[:, None]
    cumulative = torch.atan(x * y / (g * torch.sqrt(x * x + y * y + g * g)))
    share = cumulative.diff(dim=0).diff(dim=1)
    return (share / share.sum()).float()


def share_charge(photons: torch.Tensor, sharing: float) -> torch.Tensor:
    """Spill the share `sharing` of each pixel's charge (slow, fast) over each edge."""
    for axis in (0, 1):
        spread = (1 - 2 * sharing) * photons
        n = photons.shape[axis] - 1
        spread.narrow(axis, 1, n).add_(photons.narrow(axis, 0, n), alpha=sharing)
        spread.narrow(axis, 0, n).add_(photons.narrow(axis, 1, n), alpha=sharing)
        photons = spread
    return photons


def usable_pixels(detector: Detector, image: np.ndarray) -> np.ndarray:
    """Mask of a shot as the format classes give it; bool (slow, fast), True = use.

    What is known to be good, within the trusted range.
    """
    trusted = (image >= detector.min_trusted) & (image < detector.saturation)
    return trusted & known_good(detector)
