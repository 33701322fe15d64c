"""Photons to the ADU of the file: gains, noise, pedestals, bad pixels, zingers."""

from __future__ import annotations

import torch

from dials_cnn_screen.simulation.defects import PixelDefect, draw_zingers
from dials_cnn_screen.simulation.detector import (
    Detector,
    defect_maps,
    gain_map,
    noise_map,
    pedestal_map,
    pixel_area_map,
    pulse_map,
    radius_map,
    tile_areas,
    tile_map,
)


def efficiency(detector: Detector) -> torch.Tensor:
    """Photons that each pixel detects of those that meet a pixel of mean size.

    Returns:
        float32 (slow, fast): the area; on a counting detector times what a pixel
        counts, in which its pixels differ as others differ in gain.
    """
    area = pixel_area_map(detector)
    return area * gain_map(detector) if detector.counting else area


def excess_charge(
    expected: torch.Tensor, detector: Detector, generator: torch.Generator
) -> torch.Tensor:
    """Charge beyond that of detected photons: the glow, and pulses in single pixels.

    Args:
        expected: float32 (slow, fast), mean photons of the background.
        detector: Its defects say how much there is.
        generator: Of the shot.

    Returns:
        float32 (slow, fast), photons.
    """
    defects = detector.defects
    charge = defects.glow * expected
    if defects.pulses:
        rate = pulse_map(detector) * expected  # (slow, fast)
        drawn = torch.rand(detector.shape, generator=generator)
        struck = (drawn < rate).nonzero(as_tuple=True)
        pulses = torch.empty(len(struck[0])).exponential_(generator=generator)
        charge[struck] += defects.pulse_charge * pulses
    return charge


def photons_to_adu(
    photons: torch.Tensor,
    detector: Detector,
    low_gain_radius: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """The values that stand in the file for the photons of one shot.

    A counting detector gives the photons. Another amplifies them, with the noise and
    the offsets that its defects describe.

    Args:
        photons: float32 (slow, fast), detected in each pixel.
        detector: Its maps are used.
        low_gain_radius: Pixels nearer to the beam than this, in pixels, are in low
            gain: they have coarse steps, as they were scaled up on writing (section
            3.2). 0 for none.
        generator: Of the shot.

    Returns:
        int32 (slow, fast), ADU, from min_trusted to saturation; the gap value in gaps,
        dead tiles and masked dead pixels.
    """
    if detector.counting:
        adu = photons.round()
    else:
        adu = _amplify(photons, detector, low_gain_radius, generator)
    _apply_pixel_defects(adu, detector, generator)
    index, charge = draw_zingers(
        detector.defects, detector.shape, detector.gain, generator
    )
    adu.view(-1).index_add_(0, index, charge)
    adu = adu.round_().clamp_(detector.min_trusted, detector.saturation)
    return torch.where(_not_written(detector), detector.gap_value, adu).to(torch.int32)


def _amplify(
    photons: torch.Tensor,
    detector: Detector,
    low_gain_radius: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Photons times gain, with noise and pedestal, float32 (slow, fast), ADU."""
    defects, tiles = detector.defects, tile_areas(detector)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    spread = defects.tile_gain * float(torch.rand(1, generator=generator))
    tile_gain = detector.gain * (1 + spread * normal(len(tiles)))
    tile_noise = detector.dark_noise * torch.exp(
        defects.tile_noise * normal(len(tiles))
    )
    tile_offset = defects.common_mode * detector.dark_noise * normal(len(tiles))
    adu = photons * gain_map(detector)
    noise = normal(*detector.shape) * noise_map(detector)
    if defects.gain_switch:
        switched = photons > defects.gain_switch
        noise = torch.where(switched, defects.gain_switch_noise * noise, noise)
        # The calibration of the two gains differs by a few percent.
        adu *= torch.where(switched, 1 + float(0.03 * normal(1)), 1.0)
    if low_gain_radius:
        coarse = radius_map(detector) < low_gain_radius
        noise = torch.where(coarse, detector.low_gain_step * noise, noise)
    for (y0, x0, y1, x1), gain, sd, offset in zip(
        tiles, tile_gain, tile_noise, tile_offset, strict=True
    ):
        tile = adu[y0:y1, x0:x1]
        tile *= gain
        tile += noise[y0:y1, x0:x1] * sd + offset
        if defects.row_noise:
            tile += defects.row_noise * normal(y1 - y0, 1)
        if defects.column_noise:
            tile += defects.column_noise * normal(1, x1 - x0)
    if low_gain_radius:
        step = detector.low_gain_step
        adu = torch.where(coarse, torch.round(adu / step) * step, adu)
    return adu + pedestal_map(detector)


def _apply_pixel_defects(
    adu: torch.Tensor, detector: Detector, generator: torch.Generator
) -> None:
    """Dead pixels give the pedestal, hot ones tens of photons, noisy ones swing."""
    defect, _ = defect_maps(detector)
    indices = torch.from_numpy(defect.ravel().nonzero()[0])
    kind = torch.from_numpy(defect.ravel()[indices.numpy()])
    values = adu.view(-1)[indices]
    steady = torch.Generator().manual_seed(detector.defects.seed + 4)
    heat = 10 ** (0.5 + 1.5 * torch.rand(len(indices), generator=steady))
    swing = torch.randn(len(indices), generator=generator).abs() * heat
    hot = values + detector.gain * heat
    noisy = values + detector.gain * (swing / 3 if detector.counting else swing)
    values = torch.where(kind == PixelDefect.DEAD, float(detector.pedestal), values)
    values = torch.where(kind == PixelDefect.HOT, hot, values)
    adu.view(-1)[indices] = torch.where(kind == PixelDefect.NOISY, noisy, values)


def _not_written(detector: Detector) -> torch.Tensor:
    """Where the file has the gap value, bool (slow, fast)."""
    defect, masked = defect_maps(detector)
    gap = tile_map(detector) < 0
    for number in detector.defects.dead_tiles:
        gap |= tile_map(detector) == number
    return gap | torch.from_numpy(masked & (defect == PixelDefect.DEAD))
