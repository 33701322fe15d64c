"""Detector families, as distributions from which a detector is drawn.

Tilings, pixels, gains and noise are of the order of the real ones, not copies: the size
of tiles and their gaps are a family's own, and all else has broad ranges. All of these
are by hand. A frame is a window of a detector, to be quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import numpy as np

from dials_cnn_screen.simulation.defects import Defects
from dials_cnn_screen.simulation.detector import Detector
from dials_cnn_screen.simulation.draws import Range, log_uniform
from dials_cnn_screen.simulation.tiling import (
    Rectangle,
    clip_areas,
    cspad_areas,
    extent,
    grid_areas,
    pinwheel_areas,
)

# Edge of a frame, pixels: by hand, from a corner of a detector to most of one.
SMALLEST, LARGEST = 700, 2500
# Tracks and blobs of charged particles in a shot, on average: by hand, from hardly any
# to more than in any of the five experiments.
_TRACKS: Range = (0.02, 30.0)


def draw_detector(family: str, rng: np.random.Generator) -> Detector:
    """A window of a detector.

    Args:
        family: One of DETECTOR_FAMILIES.
        rng: Decides all about it.

    Raises:
        ValueError: There is no such family.
    """
    if family not in _DRAW:
        raise ValueError(f"no detector family '{family}': {', '.join(_DRAW)}")
    detector = replace(_DRAW[family](rng), family=family)
    detector = _window(detector, rng)
    defects = replace(detector.defects, dead_tiles=_draw_dead_tiles(detector, rng))
    masked = rng.uniform(10, 60) if rng.random() < 0.3 else 0.0
    return replace(detector, defects=defects, masked_radius=masked)


def _window(detector: Detector, rng: np.random.Generator) -> Detector:
    """A window of the detector with the beam in it or near it.

    In one of four the detector was moved, so that the beam is anywhere on the frame or
    somewhat off its edge.
    """
    rows, columns = (
        int(min(n, log_uniform(SMALLEST, LARGEST, rng))) for n in detector.shape
    )
    moved = rng.random() < 0.25
    corner, centre = [], []
    for n, whole, beam in zip(
        (rows, columns), detector.shape, detector.beam_centre, strict=True
    ):
        within = rng.normal(0.5, 0.08) * n
        start = int(np.clip(beam - within, 0, whole - n))
        corner.append(start)
        centre.append(rng.uniform(-0.15, 1.15) * n if moved else beam - start)
    return replace(
        detector,
        shape=(rows, columns),
        beam_centre=(float(centre[0]), float(centre[1])),
        active_areas=clip_areas(
            detector.active_areas, (corner[0], corner[1]), (rows, columns)
        ),
    )


def _draw_dead_tiles(detector: Detector, rng: np.random.Generator) -> tuple[int, ...]:
    """Now and then one or two tiles are off; never much of the frame at once."""
    small = [
        number
        for number, (y0, x0, y1, x1) in enumerate(detector.active_areas)
        if (y1 - y0) * (x1 - x0) < 0.06 * np.prod(detector.shape)
    ]
    if len(small) < 8 or rng.random() < 0.8:
        return ()
    return tuple(int(n) for n in rng.choice(small, rng.integers(1, 3), replace=False))


def _counting(
    rng: np.random.Generator,
    areas: tuple[Rectangle, ...],
    pixel_size: float,
    masked_border: int,
) -> Detector:
    """A photon-counting detector: no noise, exact integers, most gaps below zero."""
    shape = extent(areas)
    return Detector(
        shape=shape,
        pixel_size=pixel_size,
        beam_centre=_beam_centre(shape, rng),
        gain=1.0,
        dark_noise=0.0,
        pedestal=0.0,
        saturation=int(rng.choice([4095, 65534, 1_000_000])),
        min_trusted=0,
        active_areas=areas,
        counting=True,
        defects=Defects(
            seed=_seed(rng),
            pixel_gain=log_uniform(0.002, 0.05, rng),
            **_bad_pixels(1e-3, rng),
            zingers=log_uniform(0.02, 2.0, rng),
            tracks=log_uniform(*_TRACKS, rng),
        ),
        seam_area=float(rng.choice([1.0, 1.5])),
        masked_border=masked_border,
        gap_value=int(rng.choice([-1, -2, 0])),
    )


def _integrating(
    rng: np.random.Generator,
    areas: tuple[Rectangle, ...],
    pixel_size: float,
    gains: Range,
    noises: Range,
    switching: float = 0.0,
    low_gain: float = 0.08,
    pulsing: float = 0.4,
) -> Detector:
    """A charge-integrating pixel array.

    gains: ADU per photon. noises: dark noise, photons. switching: chance that its gain
    switches at high signal. low_gain: chance that its inner part is in low gain.
    pulsing: chance that its noise has an exponential tail.
    """
    shape = extent(areas)
    gain = log_uniform(*gains, rng)
    dark_noise = gain * log_uniform(*noises, rng)
    switches = rng.random() < switching
    pedestal = float(rng.choice([0.0, 0.0, 10 ** rng.uniform(0, 3)]))
    pulses = rng.random() < pulsing
    return Detector(
        shape=shape,
        pixel_size=pixel_size,
        beam_centre=_beam_centre(shape, rng),
        gain=gain,
        dark_noise=dark_noise,
        pedestal=round(pedestal),
        saturation=int(gain * log_uniform(300, 30_000, rng) + pedestal),
        min_trusted=int(-200 * dark_noise - 100),
        active_areas=areas,
        defects=Defects(
            seed=_seed(rng),
            pixel_gain=log_uniform(0.003, 0.08, rng),
            pixel_pedestal=dark_noise * log_uniform(0.02, 0.7, rng),
            tile_pedestal=dark_noise * log_uniform(0.05, 5.0, rng),
            pixel_noise=rng.uniform(0.0, 0.3),
            **_bad_pixels(3e-3, rng),
            tile_gain=log_uniform(0.01, 0.3, rng),
            fixed_tile_noise=rng.uniform(0.0, 0.4),
            edge_noise=float(rng.choice([0.0, 0.0, log_uniform(0.3, 5.0, rng)])),
            tile_noise=rng.uniform(0.0, 0.1),
            common_mode=log_uniform(0.03, 2.0, rng),
            row_noise=_line_noise(dark_noise, rng),
            column_noise=_line_noise(dark_noise, rng),
            zingers=log_uniform(0.05, 3.0, rng),
            tracks=log_uniform(*_TRACKS, rng),
            pulses=log_uniform(1e-4, 3e-2, rng) if pulses else 0.0,
            pulse_charge=log_uniform(0.7, 6.0, rng),
            pulse_texture=rng.uniform(0.0, 1.5),
            glow=rng.uniform(0.0, 1.5) if pulses else 0.0,
            gain_switch=log_uniform(5, 100, rng) if switches else 0.0,
            gain_switch_noise=log_uniform(2, 15, rng),
        ),
        sharing=float(rng.choice([0.0, log_uniform(0.005, 0.12, rng)])),
        low_gain_d_min=rng.uniform(2.5, 12) if rng.random() < low_gain else None,
        low_gain_step=log_uniform(3.0, 14.0, rng),
        seam_area=float(rng.choice([1.0, 1.5, 2.0, 2.0])),
        masked_border=int(rng.choice([0, 1, 1, 2])),
        gap_value=0 if rng.random() < 0.7 else int(-200 * dark_noise - 101),
    )


def _beam_centre(
    shape: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float]:
    """Near the middle of the whole detector."""
    slow, fast = (n / 2 + rng.normal(0, 0.03 * n) for n in shape)
    return slow, fast


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**40))


class _BadPixels(TypedDict):
    bad: float
    masked: float


def _bad_pixels(most: float, rng: np.random.Generator) -> _BadPixels:
    """Share of bad pixels, and of those that are masked: all but a dozen of a frame.

    Users soon mask more hot pixels than that; and one by itself looks just like a spot
    of one pixel.
    """
    bad, unmasked = log_uniform(1e-7, most, rng), log_uniform(1e-8, 4e-6, rng)
    return {"bad": bad, "masked": max(0.0, 1 - unmasked / bad)}


def _line_noise(dark_noise: float, rng: np.random.Generator) -> float:
    """Noise of rows or of columns, ADU; six detectors in ten have none."""
    return 0.0 if rng.random() < 0.6 else dark_noise * log_uniform(0.1, 1.0, rng)


def _cspad(rng: np.random.Generator) -> Detector:
    gain, noise = (3.0, 30.0), (0.1, 1.0)
    detector = _integrating(
        rng, cspad_areas(), 0.11, gain, noise, low_gain=0.4, pulsing=0.8
    )
    return replace(detector, shape=(1765, 1765), pedestal=0.0)


def _jungfrau(rng: np.random.Generator) -> Detector:
    gap = (int(rng.integers(8, 40)), int(rng.integers(8, 40)))
    areas = grid_areas((4, 2), (256, 256), gap, (2, 4), seam=2)
    return _integrating(rng, areas, 0.075, (0.5, 30.0), (0.03, 0.4), switching=0.6)


def _epix(rng: np.random.Generator) -> Detector:
    gap = (int(rng.integers(4, 30)), int(rng.integers(4, 30)))
    pixel = float(rng.choice([0.05, 0.1]))
    areas = grid_areas((2, 2), (176, 192), gap, (2, 2), seam=int(rng.choice([0, 2, 3])))
    areas = pinwheel_areas(areas, int(rng.integers(10, 50)))
    return _integrating(rng, areas, pixel, (1.0, 30.0), (0.05, 0.6), switching=0.4)


def _agipd(rng: np.random.Generator) -> Detector:
    gap = (int(rng.integers(10, 35)), int(rng.integers(2, 12)))
    areas = grid_areas((4, 1), (64, 64), gap, (2, 8), seam=int(rng.choice([0, 2])))
    areas = pinwheel_areas(areas, int(rng.integers(8, 40)))
    return _integrating(rng, areas, 0.2, (0.5, 30.0), (0.05, 0.6), switching=0.7)


def _mpccd(rng: np.random.Generator) -> Detector:
    gap = (int(rng.integers(4, 30)), int(rng.integers(6, 40)))
    areas = grid_areas((4, 2), (512, 1024), gap)
    detector = _integrating(rng, areas, 0.05, (1.0, 20.0), (0.1, 0.8))
    return replace(detector, masked_border=0)


def _eiger(rng: np.random.Generator) -> Detector:
    gap = (int(rng.choice([37, 38])), int(rng.choice([10, 12])))
    areas = grid_areas((4, 2), (514, 1030), gap)
    return _counting(rng, areas, 0.075, masked_border=int(rng.choice([0, 0, 1])))


def _pilatus(rng: np.random.Generator) -> Detector:
    areas = grid_areas((8, 3), (195, 487), (17, 7))
    return _counting(rng, areas, 0.172, masked_border=int(rng.choice([0, 0, 1])))


def _rayonix(rng: np.random.Generator) -> Detector:
    """A CCD behind fibre tapers: point spread, tapers side by side, a hole or not."""
    pixel = float(rng.choice([0.0732, 0.0886, 0.177]))
    gain = log_uniform(0.3, 10.0, rng)
    noise = max(0.4, gain * log_uniform(0.1, 3.0, rng))
    tapers = int(rng.choice([1, 2, 3, 4]))
    edge = int(rng.integers(960, 2000) // tapers)
    areas = grid_areas((tapers, tapers), (edge, edge), (0, 0))
    pedestal = round(10 ** rng.uniform(1, 2))
    return Detector(
        shape=extent(areas),
        pixel_size=pixel,
        beam_centre=_beam_centre(extent(areas), rng),
        gain=gain,
        dark_noise=noise,
        pedestal=pedestal,
        saturation=65535,
        min_trusted=1,
        psf=log_uniform(0.2, 1.5, rng),
        active_areas=areas,
        hole_radius=float(rng.choice([0.0, rng.uniform(15, 60)])),
        defects=Defects(
            seed=_seed(rng),
            pixel_gain=log_uniform(0.003, 0.04, rng),
            pixel_pedestal=noise * log_uniform(0.02, 0.5, rng),
            tile_pedestal=noise * log_uniform(0.05, 3.0, rng),
            pixel_noise=rng.uniform(0.0, 0.15),
            **_bad_pixels(1e-4, rng),
            tile_gain=log_uniform(0.003, 0.15, rng),
            row_noise=_line_noise(noise, rng),
            column_noise=_line_noise(noise, rng),
            zingers=log_uniform(0.05, 5.0, rng),
            tracks=log_uniform(*_TRACKS, rng),
        ),
        seam_area=1.0,
        masked_border=0,
    )


def _flatpanel(rng: np.random.Generator) -> Detector:
    """CMOS or amorphous silicon behind a scintillator, panels side by side."""
    pixel = float(rng.choice([0.0748, 0.1, 0.15, 0.2]))
    tiles = ((1, 1), (1, 2), (2, 2), (2, 3))[rng.integers(4)]
    seam = int(rng.choice([0, 0, 2, 4]))
    size = (int(rng.integers(700, 1600)), int(rng.integers(700, 1600)))
    areas = grid_areas(tiles, size, (seam, seam))
    detector = _integrating(rng, areas, pixel, (0.3, 10.0), (0.3, 5.0))
    pedestal = round(10 ** rng.uniform(1, 3))
    return replace(
        detector,
        pedestal=pedestal,
        saturation=int(rng.choice([16383, 65535])),
        psf=log_uniform(0.1, 1.2, rng),
        sharing=0.0,
        seam_area=1.0,
    )


_DRAW: dict[str, Callable[[np.random.Generator], Detector]] = {
    "cspad": _cspad,
    "rayonix": _rayonix,
    "jungfrau": _jungfrau,
    "epix": _epix,
    "agipd": _agipd,
    "eiger": _eiger,
    "pilatus": _pilatus,
    "mpccd": _mpccd,
    "flatpanel": _flatpanel,
}
DETECTOR_FAMILIES = tuple(_DRAW)
