"""What is wrong with a detector's pixels, for good and shot by shot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch

Shape = tuple[int, int]


@dataclass(frozen=True)
class Flaws:
    """How far pixels and tiles are from equal; ADU are those of the file.

    For good, drawn from seed: pixel_gain, sd of a pixel's gain over its mean;
    pixel_offset, sd of a pixel's pedestal, ADU; tile_steps, sd of a tile's pedestal,
    ADU; pixel_noise and noise_steps, sd of the logarithm of a pixel's and of a tile's
    dark noise; edge_noise, how many times larger the dark noise of some tiles gets
    towards one of their edges; bad, share of pixels that are dead, hot or noisy; known,
    chance that such a pixel is in the mask; dead_tiles, numbers of tiles that give
    nothing (in the mask).

    Shot by shot: tile_gain, the sd of the tiles' gains over their mean is up to this;
    tile_noise, sd of the logarithm of a tile's dark noise; common_mode, sd of a tile's
    offset in units of the dark noise; row_noise, column_noise, sd of the offset of a
    tile's row or column, ADU; zingers, mean number of single bright pixels; tracks,
    mean number of tracks and blobs of charged particles.

    switch: photons above which a pixel reads in low gain, where its noise is
    switch_noise times larger and its gain off by a few percent; 0 for one gain.
    """

    seed: int = 0
    pixel_gain: float = 0.02
    pixel_offset: float = 0.0
    pixel_noise: float = 0.0
    noise_steps: float = 0.0
    edge_noise: float = 0.0
    tile_steps: float = 0.0
    bad: float = 0.0
    known: float = 1.0
    dead_tiles: tuple[int, ...] = ()
    tile_gain: float = 0.01
    tile_noise: float = 0.2
    common_mode: float = 0.3
    row_noise: float = 0.0
    column_noise: float = 0.0
    zingers: float = 1.0
    tracks: float = 0.0
    switch: float = 0.0
    switch_noise: float = 1.0


class Fault(IntEnum):
    """State of a pixel."""

    NONE = 0
    DEAD = 1
    HOT = 2
    NOISY = 3


def draw_faults(flaws: Flaws, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Fault of each pixel, uint8 (slow, fast), and whether the mask has it, bool."""
    rng = np.random.default_rng(flaws.seed)
    fault = np.zeros(shape, np.uint8)
    known = np.zeros(shape, bool)
    n_bad = rng.poisson(flaws.bad * fault.size)
    place = rng.integers(fault.size, size=n_bad)
    fault.flat[place] = rng.integers(Fault.DEAD, Fault.NOISY + 1, size=n_bad)
    known.flat[place] = rng.random(n_bad) < flaws.known
    return fault, known


def draw_zingers(
    flaws: Flaws, shape: Shape, gain: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the flattened frame, int64 (n,), and ADU (n,) that zingers add.

    Single pixels have tens of photons or more. Tracks are straight, up to a dozen
    pixels long; blobs are a few pixels wide. gain: ADU a photon.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    rng = np.random.default_rng(seed)
    slow, fast, adu = [], [], []
    n_single = rng.poisson(flaws.zingers)
    slow.append(rng.integers(shape[0], size=n_single))
    fast.append(rng.integers(shape[1], size=n_single))
    adu.append(10 ** (1 + np.abs(rng.normal(size=n_single))))
    for _ in range(rng.poisson(flaws.tracks)):
        y, x, photons = _blob(rng) if rng.random() < 0.3 else _track(rng)
        slow.append(np.floor(y + rng.uniform(0, shape[0])).astype(int))
        fast.append(np.floor(x + rng.uniform(0, shape[1])).astype(int))
        adu.append(photons)
    y, x, photons = (np.concatenate(parts) for parts in (slow, fast, adu))
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    place = torch.from_numpy(y[inside] * shape[1] + x[inside])
    return place, torch.from_numpy(gain * photons[inside]).float()


def _track(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = rng.integers(2, 13)
    direction = rng.uniform(0, np.pi)
    steps = np.arange(length)
    photons = 10 ** rng.uniform(0.5, 2.5) * rng.lognormal(0, 0.5, length)
    return np.sin(direction) * steps, np.cos(direction) * steps, photons


def _blob(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = rng.integers(10, 80)
    width = rng.uniform(0.4, 2.5, size=(2, 1))
    y, x = width * rng.normal(size=(2, n))
    return y, x, np.full(n, 10 ** rng.uniform(0, 1.3))
