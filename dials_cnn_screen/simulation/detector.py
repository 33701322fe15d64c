"""Detectors: which pixels there are, where, and how equal they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dials_cnn_screen.simulation.defects import (
    Defects,
    PixelDefect,
    draw_pixel_defects,
)
from dials_cnn_screen.simulation.tiling import Rectangle

# Edge of the areas whose pixels have pulses about as often, pixels: by hand, after the
# frames of a CSPAD, whose noise varies within its tiles of 194 x 185.
_PULSE_AREA = 32


@dataclass(frozen=True)
class Detector:
    """A flat detector normal to the beam, or a window of one.

    Attributes:
        shape: (slow, fast), pixels.
        pixel_size: mm.
        beam_centre: (slow, fast), pixels; it may lie off the frame.
        gain: ADU per photon.
        dark_noise: Standard deviation of a pixel without light, ADU.
        pedestal: Value of a pixel without light, ADU.
        saturation: Largest value, ADU; pixels that have it are overloaded, and used.
        min_trusted: Smallest value, ADU.
        psf: Radius g of the point spread of a fibre-coupled CCD, pixels; 0 for none.
        active_areas: The tiles; empty where the whole frame is active.
        hole_radius: Radius of the hole for the beam, pixels.
        low_gain_d_min: Pixels at a resolution below this (spacings above it, A) are in
            low-gain mode; None where there is none.
        low_gain_step: What values of low-gain pixels were multiplied by on writing;
            about seven for the CSPAD (section 3.2).
        shadowed_rows: Number of rows at the bottom that lie in shadow.
        family: Detector family, such as cspad or rayonix.
        defects: What is wrong with its pixels.
        counting: Each photon is counted in one pixel, without noise, and gain is 1.
        sharing: Share of a pixel's charge that spills over each of its edges.
        seam_area: Area of the pixels on either side of a gap of one to three pixels
            between tiles, over that of others. The 2 of the CSPAD is by hand.
        masked_border: Edge of each active area that users mask, pixels.
        masked_radius: Radius around the beam that users mask, pixels.
        gap_value: What the file has in gaps and in masked dead pixels.
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
    low_gain_step: float = 7.0
    shadowed_rows: int = 0
    family: str = ""
    defects: Defects = field(default_factory=Defects)
    counting: bool = False
    sharing: float = 0.0
    seam_area: float = 2.0
    masked_border: int = 1
    masked_radius: float = 0.0
    gap_value: int = 0


def tile_areas(detector: Detector) -> tuple[Rectangle, ...]:
    """The tiles: the active areas, or else the four quadrants of a CCD."""
    if detector.active_areas:
        return detector.active_areas
    rows, columns = detector.shape
    y, x = rows // 2, columns // 2
    return (0, 0, y, x), (0, x, y, columns), (y, 0, rows, x), (y, x, rows, columns)


def offsets(detector: Detector) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets of pixel centres from the beam, (slow, 1) and (1, fast), pixels."""
    slow = torch.arange(detector.shape[0]) + 0.5 - detector.beam_centre[0]
    fast = torch.arange(detector.shape[1]) + 0.5 - detector.beam_centre[1]
    return slow[:, None].float(), fast[None, :].float()


# Maps of the few detectors in use are kept, as a shot needs most of them; nothing may
# write to them. All have the detector's shape (slow, fast).


@lru_cache(maxsize=4)
def radius_map(detector: Detector) -> torch.Tensor:
    """Distance of each pixel from the beam centre, float32 (slow, fast), pixels."""
    slow, fast = offsets(detector)
    return torch.sqrt(slow**2 + fast**2)


@lru_cache(maxsize=4)
def tile_map(detector: Detector) -> torch.Tensor:
    """Number of each pixel's tile, int16 (slow, fast); -1 in gaps and in the hole."""
    tiles = np.full(detector.shape, -1, dtype=np.int16)
    for number, (y0, x0, y1, x1) in enumerate(tile_areas(detector)):
        tiles[y0:y1, x0:x1] = number
    if detector.hole_radius:
        tiles[radius_map(detector).numpy() < detector.hole_radius] = -1
    return torch.from_numpy(tiles)


@lru_cache(maxsize=4)
def pixel_area_map(detector: Detector) -> torch.Tensor:
    """Sensitive area of each pixel over that of most pixels, float32 (slow, fast).

    The facing rows of the two ASICs of a CSPAD module also collect the charge of the
    gap between them (section 3.2); other detectors have such pixels too.
    """
    area = np.ones(detector.shape, dtype=np.float32)
    if not detector.active_areas:
        return torch.from_numpy(area)
    tiles = tile_map(detector).numpy()
    for tile, larger in ((tiles, area), (tiles.T, area.T)):
        for step in (2, 3, 4):
            facing = (tile[:-step] >= 0) & (tile[step:] >= 0)
            for between in range(1, step):
                facing &= tile[between : between - step] < 0
            larger[:-step][facing] = larger[step:][facing] = detector.seam_area
    return torch.from_numpy(area)


@lru_cache(maxsize=4)
def gain_map(detector: Detector) -> torch.Tensor:
    """Gain of each pixel over the mean, float32 (slow, fast)."""
    generator = torch.Generator().manual_seed(detector.defects.seed)
    spread = torch.randn(detector.shape, generator=generator)
    return 1 + detector.defects.pixel_gain * spread


@lru_cache(maxsize=4)
def pedestal_map(detector: Detector) -> torch.Tensor:
    """Pedestal of each pixel, float32 (slow, fast), ADU."""
    defects = detector.defects
    generator = torch.Generator().manual_seed(defects.seed + 1)
    pedestal = torch.full(detector.shape, float(detector.pedestal))
    if defects.pixel_pedestal:
        spread = torch.randn(detector.shape, generator=generator)
        pedestal += defects.pixel_pedestal * spread
    if defects.tile_pedestal:
        for y0, x0, y1, x1 in tile_areas(detector):
            step = defects.tile_pedestal * torch.randn(1, generator=generator)
            pedestal[y0:y1, x0:x1] += step
    return pedestal


@lru_cache(maxsize=4)
def noise_profile(detector: Detector) -> torch.Tensor:
    """Mean dark noise around each pixel over the detector's, float32 (slow, fast).

    Tiles differ, and one in four is noisier towards one of its edges.
    """
    defects = detector.defects
    rng = np.random.default_rng(defects.seed + 2)
    profile = np.ones(detector.shape, dtype=np.float32)
    for y0, x0, y1, x1 in tile_areas(detector):
        tile = profile[y0:y1, x0:x1]
        tile *= rng.lognormal(0, defects.fixed_tile_noise)
        if defects.edge_noise and rng.random() < 0.25:
            turned = np.rot90(tile, rng.integers(4))
            length = rng.uniform(0.05, 0.4) * len(turned)
            rise = np.exp(-np.arange(len(turned)) / length)
            turned *= 1 + defects.edge_noise * rise[:, None]
    return torch.from_numpy(profile)


@lru_cache(maxsize=4)
def noise_map(detector: Detector) -> torch.Tensor:
    """Dark noise of each pixel over the detector's, float32 (slow, fast)."""
    generator = torch.Generator().manual_seed(detector.defects.seed + 3)
    spread = torch.randn(detector.shape, generator=generator)
    return noise_profile(detector) * torch.exp(detector.defects.pixel_noise * spread)


@lru_cache(maxsize=4)
def pulse_map(detector: Detector) -> torch.Tensor:
    """Pulses of each pixel per expected photon, float32 (slow, fast).

    The rate varies smoothly over some tens of pixels.
    """
    defects = detector.defects
    generator = torch.Generator().manual_seed(defects.seed + 5)
    coarse = [n // _PULSE_AREA + 2 for n in detector.shape]
    field = defects.pulse_texture * torch.randn(1, 1, *coarse, generator=generator)
    smooth = functional.interpolate(
        field, scale_factor=_PULSE_AREA, mode="bilinear", align_corners=False
    )[0, 0, : detector.shape[0], : detector.shape[1]]
    rate = torch.exp(smooth)
    return defects.pulses * rate / rate.mean()


@lru_cache(maxsize=4)
def defect_maps(detector: Detector) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """PixelDefect of each pixel, and whether users mask it; both (slow, fast)."""
    return draw_pixel_defects(detector.defects, detector.shape)


@lru_cache(maxsize=4)
def static_mask(detector: Detector) -> NDArray[np.bool_]:
    """Mask that users have before a shot is taken, bool (slow, fast), True = use.

    Without gaps, borders of active areas, dead tiles, the pixels known to be bad, and
    what is masked around the beam.
    """
    border = detector.masked_border if detector.active_areas else 0
    good = np.zeros(detector.shape, dtype=bool)
    for number, (y0, x0, y1, x1) in enumerate(tile_areas(detector)):
        if number not in detector.defects.dead_tiles:
            good[y0 + border : y1 - border, x0 + border : x1 - border] = True
    _, masked = defect_maps(detector)
    radius = radius_map(detector).numpy()
    smallest = max(detector.hole_radius, detector.masked_radius)
    return good & ~masked & (radius >= smallest)


def good_pixels(detector: Detector) -> NDArray[np.bool_]:
    """Pixels of the static mask that have no defect, bool (slow, fast)."""
    defect, _ = defect_maps(detector)
    return static_mask(detector) & (defect == PixelDefect.NONE)


def usable_pixels(detector: Detector, image: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask of a shot as the format classes give it.

    Args:
        detector: Of the shot.
        image: Integers (slow, fast), ADU.

    Returns:
        bool (slow, fast), True = use: the static mask, without pixels below the trusted
        range. Overloaded pixels are signal.
    """
    return (image >= detector.min_trusted) & static_mask(detector)


def resolution_radius(
    detector: Detector, d: float, distance: float, wavelength: float
) -> float:
    """Radius of the ring of a spacing by Bragg's law.

    Args:
        detector: Normal to the beam.
        d: Spacing, A.
        distance: mm.
        wavelength: A.

    Returns:
        Pixels; infinite where the scattering angle is 90 degrees or more.
    """
    two_theta = 2 * math.asin(min(1.0, wavelength / (2 * d)))
    if two_theta >= math.pi / 2:
        return math.inf
    return distance * math.tan(two_theta) / detector.pixel_size
