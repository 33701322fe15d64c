"""What is wrong with a detector's pixels, for good and from shot to shot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Defects:
    """How unequal pixels and tiles are, as standard deviations (sd).

    ADU are those of the file. The defaults are by hand.

    Attributes:
        seed: Of all that stays the same from shot to shot, down to dead_tiles.
        pixel_gain: sd of a pixel's gain over its mean.
        pixel_pedestal: sd of a pixel's pedestal, ADU.
        pixel_noise: sd of the logarithm of a pixel's dark noise.
        fixed_tile_noise: sd of the logarithm of a tile's dark noise.
        edge_noise: How much larger the dark noise of some tiles gets towards one of
            their edges, over that in their middle.
        tile_pedestal: sd of a tile's pedestal, ADU.
        bad: Share of pixels that are dead, hot or noisy.
        masked: Share of these that users have masked.
        dead_tiles: Numbers of tiles that give nothing; users have masked them.
        tile_gain: Largest sd of the tiles' gains over their mean; each shot has its
            own, from 0 to this.
        tile_noise: sd of the logarithm of a tile's dark noise, from shot to shot.
        common_mode: sd of a tile's offset, over the dark noise.
        row_noise: sd of the offset of a row of a tile, ADU.
        column_noise: sd of the offset of a column of a tile, ADU.
        zingers: Mean number of single bright pixels.
        tracks: Mean number of tracks and blobs of charged particles.
        pulses: Mean number of additional pulses in single pixels, per expected photon.
            Real charge-integrating detectors have noise with an exponential tail that
            grows with the flux.
        pulse_charge: Mean charge of a pulse, photons.
        pulse_texture: sd of the logarithm of their rate, from area to area.
        glow: Charge without photon noise under that of the photons, over it.
        gain_switch: Photons above which a pixel switches to low gain; 0 for one gain.
        gain_switch_noise: Dark noise of a pixel in low gain over that in high gain.
    """

    seed: int = 0
    pixel_gain: float = 0.02
    pixel_pedestal: float = 0.0
    pixel_noise: float = 0.0
    fixed_tile_noise: float = 0.0
    edge_noise: float = 0.0
    tile_pedestal: float = 0.0
    bad: float = 0.0
    masked: float = 1.0
    dead_tiles: tuple[int, ...] = ()
    tile_gain: float = 0.01
    tile_noise: float = 0.2
    common_mode: float = 0.3
    row_noise: float = 0.0
    column_noise: float = 0.0
    zingers: float = 1.0
    tracks: float = 0.0
    pulses: float = 0.0
    pulse_charge: float = 2.0
    pulse_texture: float = 0.0
    glow: float = 0.0
    gain_switch: float = 0.0
    gain_switch_noise: float = 1.0


class PixelDefect(IntEnum):
    """What is wrong with one pixel."""

    NONE = 0
    DEAD = 1
    HOT = 2
    NOISY = 3


def draw_pixel_defects(
    defects: Defects, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The bad pixels of a detector, always the same ones for a seed.

    Args:
        defects: How many there are.
        shape: Of the frame, (slow, fast), pixels.

    Returns:
        PixelDefect of each pixel, and whether users have masked it; both (slow, fast).
    """
    rng = np.random.default_rng(defects.seed)
    defect = np.zeros(shape, np.uint8)
    masked = np.zeros(shape, bool)
    n_bad = rng.poisson(defects.bad * defect.size)
    index = rng.integers(defect.size, size=n_bad)
    defect.flat[index] = rng.integers(
        PixelDefect.DEAD, PixelDefect.NOISY + 1, size=n_bad
    )
    masked.flat[index] = rng.random(n_bad) < defects.masked
    return defect, masked


def draw_zingers(
    defects: Defects, shape: tuple[int, int], gain: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """What cosmic rays and other particles add to one shot.

    Single pixels have ten photons or more. Tracks are straight, up to a dozen pixels
    long; blobs are a few pixels wide. All these sizes are by hand.

    Args:
        defects: How many of them there are.
        shape: Of the frame, (slow, fast), pixels.
        gain: ADU per photon.
        generator: Of the shot.

    Returns:
        Indices into the flattened frame, int64 (n,), and what is added there, float32
        (n,), ADU; an index can occur several times.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    rng = np.random.default_rng(seed)
    slow, fast, photons = [], [], []
    n_single = rng.poisson(defects.zingers)
    slow.append(rng.integers(shape[0], size=n_single))
    fast.append(rng.integers(shape[1], size=n_single))
    photons.append(10 ** (1 + np.abs(rng.normal(size=n_single))))
    for _ in range(rng.poisson(defects.tracks)):
        y, x, deposit = _blob(rng) if rng.random() < 0.3 else _track(rng)
        slow.append(np.floor(y + rng.uniform(0, shape[0])).astype(int))
        fast.append(np.floor(x + rng.uniform(0, shape[1])).astype(int))
        photons.append(deposit)
    y, x, adu = np.concatenate(slow), np.concatenate(fast), np.concatenate(photons)
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    index = torch.from_numpy(y[inside] * shape[1] + x[inside])
    return index, torch.from_numpy(gain * adu[inside]).float()


# Offsets along slow and fast, pixels, and photons there, each (n,).
_Deposit = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _track(rng: np.random.Generator) -> _Deposit:
    length = rng.integers(2, 13)
    direction = rng.uniform(0, np.pi)
    steps = np.arange(length)
    photons = 10 ** rng.uniform(0.5, 2.5) * rng.lognormal(0, 0.5, length)
    return np.sin(direction) * steps, np.cos(direction) * steps, photons


def _blob(rng: np.random.Generator) -> _Deposit:
    n = rng.integers(10, 80)
    width = rng.uniform(0.4, 2.5, size=(2, 1))
    y, x = width * rng.normal(size=(2, n))
    return y, x, np.full(n, 10 ** rng.uniform(0, 1.3))
