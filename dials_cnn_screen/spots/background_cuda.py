"""The background of a batch of frames on a GPU: background.background in Triton.

Frames are (b, slow, fast), padded to whole blocks. Of each quantity there is one value
a frame and block, (b, rows * columns of blocks).

moments_kernel does step 1 of background.py, the first pass over all pixels;
blocks_cuda.py the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from dials_cnn_screen.spots import background as reference
from dials_cnn_screen.spots.blocks_cuda import (
    fill_kernel,
    least_kernel,
    medians_kernel,
    noisier_kernel,
)
from dials_cnn_screen.util.kernels_cuda import (
    BLOCK,
    INTERPRETED,
    is_trusted,
    to_float,
)

_MIN_USED = tl.constexpr(reference.MIN_USED)
_ROUNDS = tl.constexpr(reference.ROUNDS)
_CLIP = tl.constexpr(reference.CLIP)
_TAIL = tl.constexpr(reference.TAIL)
_LARGEST = tl.constexpr(float(np.finfo(np.float32).max))
# What the kernels count of each frame, in the order of Counters: used pixels; blocks
# with too few of them where the mask has enough; blocks that are not flat.
_USED, _SHORT, _VARIED = (tl.constexpr(k) for k in range(3))
# Blocks of one program of moments_kernel: a thread then has all rows of eight columns,
# 16 bytes of uint16. Measured with a trial on an H200.
_BLOCKS = 4 if INTERPRETED else 64
_THREADS = 256
# Values that least_kernel reads at once.
_CHUNK = 4096


@triton.jit(do_not_specialize=["b", "n_blocks", "columns"])
def moments_kernel(
    data,
    bits,
    enough,
    full,
    low,
    high,
    least_whole,
    moments,
    counters,
    b,
    n_blocks,
    columns,
    NB: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Mean, deviation, tail's deviation and skewness of NB blocks.

    Args:
        data: Frames.
        bits: int32 (blocks, 16), the mask of each row of each block.
        enough: int32 (blocks,), whether the mask leaves MIN_USED pixels.
        full: int32 (programs,), whether it leaves all pixels of all blocks.
        low, high: The trusted range; where not TRUSTED all values are.
        least_whole: float32 (b,), LEAST_WHOLE, or 0 for a frame of no integers.
        moments: float32 (4, b, blocks), written.
        counters: int32 (., b), added to.
        b: Room for frames, of moments and counters.
    """
    program, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    # Past the end the last block once more: no load needs a check.
    at = program * NB + tl.arange(0, NB)
    here = at < n_blocks
    block = tl.minimum(at, n_blocks - 1)  # (NB,)
    r = tl.arange(0, 16)
    width = columns * 16
    y = (block // columns * 16)[:, None, None] + r[None, :, None]
    x = (block % columns * 16)[:, None, None] + r[None, None, :]
    pixels = data + frame * n_blocks * 256
    v = to_float(tl.load(pixels + y * width + x))  # (NB, 16, 16)
    if TRUSTED:
        v = tl.where(is_trusted(v, low, high, TRUSTED), v, float("inf"))
    if tl.load(full + program) == 0:
        rows = tl.load(bits + block[:, None] * 16 + r[None, :])  # (NB, 16)
        used = ((rows[:, :, None] >> r[None, None, :]) & 1) != 0
        v = tl.where(used, v, float("inf"))
    # Sums of what is above the least value keep their digits in float32.
    least = tl.min(tl.min(v, axis=1), axis=1)  # (NB,)
    least = tl.where(least < float("inf"), least, 0.0)
    v = v - least[:, None, None]
    n_used, mean, deviation = _moments(v, tl.full([NB], _LARGEST, tl.float32))
    for _ in tl.static_range(_ROUNDS):
        _, mean, deviation = _moments(v, mean + deviation * _CLIP)
    far = tl.maximum(deviation, tl.load(least_whole + frame)) * _TAIL
    used = v < float("inf")
    above = tl.minimum(v - mean[:, None, None], far[:, None, None])
    above = tl.where(used, above, 0.0)
    n = tl.maximum(n_used, 1.0)
    square = tl.sum(tl.sum(above * above, axis=1), axis=1) / n
    cube = tl.sum(tl.sum(above * above * above, axis=1), axis=1) / n
    tail = tl.sqrt(square)
    skew = tl.where(square > 0, cube / tl.where(square > 0, square * tail, 1.0), 0.0)
    # Without enough pixels 0, until fill_kernel.
    known = n_used >= _MIN_USED
    out = moments + frame * n_blocks + block
    plane = n_blocks.to(tl.int64) * b
    tl.store(out, tl.where(known, mean + least, 0.0), mask=here)
    tl.store(out + plane, tl.where(known, deviation, 0.0), mask=here)
    tl.store(out + 2 * plane, tl.where(known, tail, 0.0), mask=here)
    tl.store(out + 3 * plane, tl.where(known, skew, 0.0), mask=here)
    _count(counters + _USED * b + frame, tl.where(here, n_used, 0.0).to(tl.int32))
    _count(counters + _VARIED * b + frame, (here & (square > 0)).to(tl.int32))
    if TRUSTED:
        short = here & (known == 0) & (tl.load(enough + block) != 0)
        _count(counters + _SHORT * b + frame, short.to(tl.int32))


@triton.jit
def _moments(v, limit):
    """Number, mean and deviation (NB,) of values (NB, 16, 16) up to a limit (NB,)."""
    inside = v <= limit[:, None, None]
    w = tl.where(inside, v, 0.0)
    count = tl.sum(tl.sum(tl.where(inside, 1.0, 0.0), axis=1), axis=1)
    n = tl.maximum(count, 1.0)
    mean = tl.sum(tl.sum(w, axis=1), axis=1) / n
    square = tl.sum(tl.sum(w * w, axis=1), axis=1) / n
    return count, mean, tl.sqrt(tl.maximum(square - mean * mean, 0.0))


@triton.jit
def _count(counter, numbers):
    """Add numbers to a counter of the frame."""
    total = tl.sum(numbers)
    if total > 0:
        tl.atomic_add(counter, total, sem="relaxed")


class DeviceBackground(NamedTuple):
    """The background of the blocks of b frames; Background on the device.

    Attributes:
        mean, inverse, skew: float32 (b, blocks), as in Background.
        middle: float32 (b,), the median of inverse of each frame.
    """

    mean: torch.Tensor
    inverse: torch.Tensor
    skew: torch.Tensor
    middle: torch.Tensor


class BackgroundKernels:
    """The kernels with all that they need for batches of b frames of one mask."""

    def __init__(
        self,
        mask: NDArray[np.bool_],
        trusted: tuple[float, float] | None,
        batch: int,
        device: str,
    ) -> None:
        """Mask: bool (slow, fast), whole blocks; trusted: None is any value."""
        self._trusted = trusted
        self._shape = rows, columns = tuple(n // BLOCK for n in mask.shape)
        blocks = mask.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
        bits = (blocks * (1 << np.arange(BLOCK))).sum(axis=3)  # (rows, columns, 16)
        used = blocks.sum(axis=(2, 3))  # (rows, columns)
        rounds = _fill_rounds(used >= reference.MIN_USED)
        programs = -(-used.size // _BLOCKS)
        full = np.full(programs * _BLOCKS, True)
        full[: used.size] = used.ravel() == BLOCK**2

        def on_device(values: NDArray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, np.int32)).to(device)

        self._bits = on_device(bits)
        self._enough = on_device(used >= reference.MIN_USED)
        self._full = on_device(full.reshape(programs, _BLOCKS).all(axis=1))
        self._rounds = on_device(rounds)
        self._todo = [
            on_device(np.flatnonzero(rounds == i)) for i in range(1, rounds.max() + 1)
        ]

        def of_blocks(*shape: int) -> torch.Tensor:
            return torch.zeros((*shape, used.size), device=device)

        self._moments = of_blocks(4, counters_room(batch))
        self._deviations, self._stepped = of_blocks(batch), of_blocks(batch)
        self._inverse, self._skew = of_blocks(batch), of_blocks(batch)
        self._least = torch.zeros(batch, device=device)
        self._middle = torch.zeros(batch, device=device)

    def run(
        self, frames: torch.Tensor, least_whole: torch.Tensor, counters: torch.Tensor
    ) -> DeviceBackground:
        """The background of frames (b, slow, fast).

        Args:
            frames: uint16, int32 or float32.
            least_whole: float32 (b,), as in moments_kernel.
            counters: int32 (., counters_room(b)), added to.
        """
        b, room = len(frames), counters.shape[1]
        rows, columns = self._shape
        n = rows * columns
        low, high = self._trusted or (0.0, 0.0)
        moments_kernel[(len(self._full), b)](
            frames,
            self._bits,
            self._enough,
            self._full,
            low,
            high,
            least_whole,
            self._moments,
            counters,
            room,
            n,
            columns,
            NB=_BLOCKS,
            TRUSTED=self._trusted is not None,
        )
        for i, todo in enumerate(self._todo, start=1):
            fill_kernel[(triton.cdiv(len(todo), _THREADS), b, 4)](
                self._moments,
                todo,
                self._rounds,
                i,
                len(todo),
                room,
                rows,
                columns,
                THREADS=_THREADS,
            )
        grid = (triton.cdiv(n, _THREADS), b)
        medians_kernel[grid](
            self._moments,
            self._deviations,
            self._skew,
            room,
            rows,
            columns,
            THREADS=_THREADS,
        )
        noisier_kernel[grid](
            self._deviations, self._stepped, rows, columns, THREADS=_THREADS
        )
        least_kernel[(b,)](
            self._stepped, least_whole, self._least, self._middle, n, CHUNK=_CHUNK
        )
        torch.maximum(self._stepped, self._least[:, None], out=self._inverse)
        self._inverse.reciprocal_()
        mean = self._moments[0]
        return DeviceBackground(mean, self._inverse, self._skew, self._middle)


def counters_room(batch: int) -> int:
    """Length of a row of counters: kernels are compiled for pointers to 16 bytes."""
    return -(-batch // 4) * 4


def _fill_rounds(known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """In which round each block (rows, columns) gets its value; 0: it has one.

    Without any known block all are 0, and keep the value 0.
    """
    rows, columns = known.shape
    rounds = np.zeros(known.shape, np.int64)
    this = 0
    while known.any() and not known.all():
        this += 1
        padded = np.pad(known, 1)
        near = np.zeros(known.shape, bool)
        for i, j in np.ndindex(3, 3):
            near |= padded[i : i + rows, j : j + columns]
        rounds[near & ~known] = this
        known = near
    return rounds
