"""Photons to ADU: gains, noise, offsets, bad pixels, zingers, as the file has them."""

from __future__ import annotations

import torch

from dials_cnn_screen.simulation.defects import Fault, draw_zingers
from dials_cnn_screen.simulation.detector import (
    Detector,
    border_map,
    faults,
    gain_map,
    known_good,
    noise_map,
    offset_map,
    radius_map,
    tile_corners,
    tile_map,
)


def efficiency(detector: Detector) -> torch.Tensor:
    """Photons a pixel takes of those due to a common pixel, float32 (slow, fast).

    Pixels of a counting detector differ in what they count, others in their gain.
    """
    area = border_map(detector)
    return area * gain_map(detector) if detector.counting else area


def read_out(
    photons: torch.Tensor,
    detector: Detector,
    low_gain_radius: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Photons (slow, fast) to the int32 ADU that stand in the file.

    A counting detector gives the photons; another adds what its flaws describe and the
    coarse steps of low-gain pixels within low_gain_radius (pixels), which were scaled
    up on writing (by seven in section 3.2). Cuts at saturation and min_trusted; gaps,
    known dead pixels and dead tiles have the detector's gap value.
    """
    if detector.counting:
        adu = photons.round()
    else:
        adu = _amplify(photons, detector, low_gain_radius, generator)
    _apply_faults(adu, detector, generator)
    place, charge = draw_zingers(
        detector.flaws, detector.shape, detector.gain, generator
    )
    adu.view(-1).index_add_(0, place, charge)
    adu = adu.round_().clamp_(detector.min_trusted, detector.saturation)
    return torch.where(_nothing(detector), detector.gap_value, adu).to(torch.int32)


def _amplify(
    photons: torch.Tensor,
    detector: Detector,
    low_gain_radius: float,
    generator: torch.Generator,
) -> torch.Tensor:
    flaws, corners = detector.flaws, tile_corners(detector)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    spread = flaws.tile_gain * float(torch.rand(1, generator=generator))
    tile_gain = detector.gain * (1 + spread * normal(len(corners)))
    tile_noise = detector.dark_noise * torch.exp(
        flaws.tile_noise * normal(len(corners))
    )
    tile_offset = flaws.common_mode * detector.dark_noise * normal(len(corners))
    adu = photons * gain_map(detector)
    noise = normal(*detector.shape) * noise_map(detector)
    if flaws.switch:
        low = photons > flaws.switch
        noise = torch.where(low, flaws.switch_noise * noise, noise)
        adu *= torch.where(low, 1 + float(0.03 * normal(1)), 1.0)
    if low_gain_radius:
        coarse = radius_map(detector) < low_gain_radius
        noise = torch.where(coarse, detector.low_gain_steps * noise, noise)
    for (y0, x0, y1, x1), gain, sd, offset in zip(
        corners, tile_gain, tile_noise, tile_offset, strict=True
    ):
        block = adu[y0:y1, x0:x1]
        block *= gain
        block += noise[y0:y1, x0:x1] * sd + offset
        if flaws.row_noise:
            block += flaws.row_noise * normal(y1 - y0, 1)
        if flaws.column_noise:
            block += flaws.column_noise * normal(1, x1 - x0)
    if low_gain_radius:
        steps = detector.low_gain_steps
        adu = torch.where(coarse, torch.round(adu / steps) * steps, adu)
    return adu + offset_map(detector)


def _apply_faults(
    adu: torch.Tensor, detector: Detector, generator: torch.Generator
) -> None:
    """Dead pixels give the pedestal, hot ones tens of photons, noisy ones swing."""
    fault, _ = faults(detector)
    places = torch.from_numpy(fault.ravel().nonzero()[0])
    kind = torch.from_numpy(fault.ravel()[places.numpy()])
    values = adu.view(-1)[places]
    steady = torch.Generator().manual_seed(detector.flaws.seed + 4)
    heat = 10 ** (0.5 + 1.5 * torch.rand(len(places), generator=steady))
    swing = torch.randn(len(places), generator=generator).abs() * heat
    hot = values + detector.gain * heat
    noisy = values + detector.gain * (swing / 3 if detector.counting else swing)
    values = torch.where(kind == Fault.DEAD, float(detector.pedestal), values)
    values = torch.where(kind == Fault.HOT, hot, values)
    adu.view(-1)[places] = torch.where(kind == Fault.NOISY, noisy, values)


def _nothing(detector: Detector) -> torch.Tensor:
    """Where the file has the gap value: gaps, dead tiles, known dead pixels."""
    fault, known = faults(detector)
    nothing = tile_map(detector) < 0
    for number in detector.flaws.dead_tiles:
        nothing |= tile_map(detector) == number
    return nothing | torch.from_numpy(known & (fault == Fault.DEAD))


def sound(detector: Detector) -> torch.Tensor:
    """Pixels that users know to be good and that are, bool (slow, fast)."""
    fault, _ = faults(detector)
    return torch.from_numpy(known_good(detector) & (fault == Fault.NONE))
