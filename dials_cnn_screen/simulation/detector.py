"""Detectors: where pixels are, and how photons become ADU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

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
    """A flat detector normal to the beam.

    shape, beam_centre: (slow, fast) pixels. pixel_size: mm. gain: ADU a photon.
    dark_noise: standard deviation of a pixel, ADU. pedestal, saturation,
    min_trusted: ADU. psf: radius g of the point spread, pixels, 0 for none.
    active_areas: (slow, fast, slow, fast) corners, end exclusive; empty for all.
    hole_radius: pixels. low_gain_d_min: A, resolution within which pixels of a
    CSPAD were in low-gain mode. dead_bottom: the lowest rows in shadow, pixels.
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
    dead_bottom: int = 0

    @property
    def kind(self) -> str:
        return "CSPAD" if self.active_areas else "Rayonix"


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


@lru_cache(maxsize=16)
def tile_map(detector: Detector) -> torch.Tensor:
    """Number of the tile of each pixel, int64 (slow, fast); -1 where nothing is read.

    Where there are no active areas, the tiles are the four quadrants of a CCD.
    """
    tiles = np.full(detector.shape, -1)
    for number, (y0, x0, y1, x1) in enumerate(detector.active_areas):
        tiles[y0:y1, x0:x1] = number
    if not detector.active_areas:
        lower, right = (np.arange(n) >= n // 2 for n in detector.shape)
        tiles[:] = 2 * lower[:, None] + right[None, :]
    if detector.hole_radius:
        tiles[radius_map(detector).numpy() < detector.hole_radius] = -1
    return torch.from_numpy(tiles)


@lru_cache(maxsize=16)
def radius_map(detector: Detector) -> torch.Tensor:
    """Distance of each pixel from the beam centre in pixels, float32 (slow, fast)."""
    slow, fast = offsets(detector)
    return torch.sqrt(slow**2 + fast**2)


def offsets(detector: Detector) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets of pixel centres from the beam, (slow, 1) and (1, fast), pixels."""
    slow = torch.arange(detector.shape[0]) + 0.5 - detector.beam_centre[0]
    fast = torch.arange(detector.shape[1]) + 0.5 - detector.beam_centre[1]
    return slow[:, None].float(), fast[None, :].float()


@lru_cache(maxsize=16)
def border_map(detector: Detector) -> torch.Tensor:
    """Sensitive area of each pixel over that of a common one, float32 (slow, fast).

    The facing rows of the two ASICs of a CSPAD module also collect the charge of the
    gap between them and count about twice (section 3.2).
    """
    area = np.ones(detector.shape, dtype=np.float32)
    for (y0, x0, y1, x1), (v0, u0, _, _) in zip(
        detector.active_areas[::2], detector.active_areas[1::2], strict=True
    ):
        if u0 > x0:
            area[y0:y1, [x1 - 1, u0]] = 2
        else:
            area[[y1 - 1, v0], x0:x1] = 2
    return torch.from_numpy(area)


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


def read_out(
    photons: torch.Tensor,
    detector: Detector,
    low_gain_radius: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Photons (slow, fast) to the int32 ADU that stand in the file.

    Adds gain differences of pixels (2%) and of tiles (up to 6%, 1% without active
    areas), dark noise and common-mode offsets that differ between tiles, about one hot
    pixel, and the coarse steps of low-gain pixels within low_gain_radius (pixels),
    which were scaled up by seven on writing (section 3.2). Cuts at saturation; pixels
    outside the active area are 0.
    """
    tiles = tile_map(detector)
    of_tile = tiles.clamp(min=0)
    n_tiles = int(tiles.max()) + 1
    spread = (0.06 if detector.active_areas else 0.01) * float(
        torch.rand(1, generator=generator)
    )
    low_gain = radius_map(detector) < low_gain_radius

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    tile_gain = detector.gain * (1 + spread * normal(n_tiles))
    adu = photons * tile_gain[of_tile] * (1 + 0.02 * normal(*detector.shape))
    tile_noise = detector.dark_noise * torch.exp(0.2 * normal(n_tiles))
    noise = tile_noise[of_tile] * torch.where(low_gain, 7.0, 1.0)
    adu += noise * normal(*detector.shape)
    adu += 0.3 * detector.dark_noise * normal(n_tiles)[of_tile]
    adu = torch.where(low_gain, torch.round(adu / 7.0) * 7.0, adu) + detector.pedestal
    for _ in range(int(torch.poisson(torch.ones(1), generator=generator))):
        place = torch.rand(2, generator=generator) * torch.tensor(detector.shape)
        adu[tuple(place.long())] += detector.gain * 10 ** float(1 + normal(1).abs())
    adu = torch.round(adu).clamp_(detector.min_trusted, detector.saturation)
    return torch.where(tiles >= 0, adu, 0.0).to(torch.int32)


def usable_pixels(detector: Detector, image: np.ndarray) -> np.ndarray:
    """Mask of a shot as the format classes give it; bool (slow, fast), True = use.

    Active pixels without the one-pixel border of each ASIC, within the trusted range.
    """
    mask = (image >= detector.min_trusted) & (image < detector.saturation)
    if detector.active_areas:
        active = np.zeros(detector.shape, dtype=bool)
        for y0, x0, y1, x1 in detector.active_areas:
            active[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = True
        mask &= active
    return mask
