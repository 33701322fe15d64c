"""From the moments of blocks to the background: background.fill in Triton.

Of each quantity there is one value a frame and block, (b, rows * columns of blocks).

    fill_kernel       blocks with too few used pixels, from their neighbours
    medians_kernel    step 2 of background.py: the median of nine
    noisier_kernel    step 3: the noisier neighbour
    least_kernel      the least deviation of each frame, from the median of its blocks
"""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import background as reference
from dials_cnn_screen.util.kernels_cuda import middles

_STEP = tl.constexpr(reference.STEP)
_LEAST_RATIO = tl.constexpr(reference.LEAST_RATIO)
_MOST_SKEW = tl.constexpr(reference.MOST_SKEW)


@triton.jit(do_not_specialize=["this", "n", "b", "rows", "columns"])
def fill_kernel(
    moments, todo, rounds, this, n, b, rows, columns, THREADS: tl.constexpr
):
    """Blocks without a value take the mean of the neighbours that have one.

    Args:
        moments: float32 (4, b, blocks), written.
        todo: int32 (n,), the blocks of this round.
        rounds: int32 (blocks,), in which round a block gets its value, 0: it has one.
        this: The round.
    """
    k = tl.program_id(0) * THREADS + tl.arange(0, THREADS)
    plane = tl.program_id(2).to(tl.int64) * b + tl.program_id(1)
    here = k < n
    block = tl.load(todo + k, mask=here, other=0)
    y, x = block // columns, block % columns
    values = moments + plane * rows * columns
    total = tl.zeros([THREADS], tl.float32)
    count = tl.zeros([THREADS], tl.float32)
    for neighbour in range(9):
        i, j = neighbour // 3 - 1, neighbour % 3 - 1
        near = here & (y + i >= 0) & (y + i < rows) & (x + j >= 0) & (x + j < columns)
        at = block + i * columns + j
        near = near & (tl.load(rounds + at, mask=near, other=0) < this)
        total += tl.load(values + at, mask=near, other=0.0)
        count += tl.where(near, 1.0, 0.0)
    tl.store(values + block, total / tl.maximum(count, 1.0), mask=here)


@triton.jit
def _ordered(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _median_of_nine(values, y, x, here, rows, columns):
    """The median over 3 x 3 blocks, edges repeated; the exchanges of background.py."""
    up, down = tl.maximum(y - 1, 0) * columns, tl.minimum(y + 1, rows - 1) * columns
    left, right = tl.maximum(x - 1, 0), tl.minimum(x + 1, columns - 1)
    v0 = tl.load(values + up + left, mask=here, other=0.0)
    v1 = tl.load(values + up + x, mask=here, other=0.0)
    v2 = tl.load(values + up + right, mask=here, other=0.0)
    v3 = tl.load(values + y * columns + left, mask=here, other=0.0)
    v4 = tl.load(values + y * columns + x, mask=here, other=0.0)
    v5 = tl.load(values + y * columns + right, mask=here, other=0.0)
    v6 = tl.load(values + down + left, mask=here, other=0.0)
    v7 = tl.load(values + down + x, mask=here, other=0.0)
    v8 = tl.load(values + down + right, mask=here, other=0.0)
    v1, v2 = _ordered(v1, v2)
    v4, v5 = _ordered(v4, v5)
    v7, v8 = _ordered(v7, v8)
    v0, v1 = _ordered(v0, v1)
    v3, v4 = _ordered(v3, v4)
    v6, v7 = _ordered(v6, v7)
    v1, v2 = _ordered(v1, v2)
    v4, v5 = _ordered(v4, v5)
    v7, v8 = _ordered(v7, v8)
    v3 = tl.maximum(v0, v3)
    v5 = tl.minimum(v5, v8)
    v4, v7 = _ordered(v4, v7)
    v6 = tl.maximum(v3, v6)
    v4 = tl.maximum(v1, v4)
    v2 = tl.minimum(v2, v5)
    v4 = tl.minimum(v4, v7)
    v4, v2 = _ordered(v4, v2)
    v4 = tl.maximum(v6, v4)
    return tl.minimum(v4, v2)


@triton.jit(do_not_specialize=["b", "rows", "columns"])
def medians_kernel(moments, deviations, skew, b, rows, columns, THREADS: tl.constexpr):
    """The deviation, or the median of the tails' if larger; the median skewness.

    deviations, skew: float32 (b, blocks), written.
    """
    block = tl.program_id(0) * THREADS + tl.arange(0, THREADS)
    frame = tl.program_id(1).to(tl.int64)
    n_blocks = rows * columns
    here = block < n_blocks
    y, x = block // columns, block % columns
    values = moments + frame * n_blocks
    plane = n_blocks.to(tl.int64) * b
    tail = _median_of_nine(values + 2 * plane, y, x, here, rows, columns)
    middle = _median_of_nine(values + 3 * plane, y, x, here, rows, columns)
    deviation = tl.load(values + plane + block, mask=here, other=0.0)
    out = frame * n_blocks + block
    tl.store(deviations + out, tl.maximum(deviation, tail), mask=here)
    tl.store(skew + out, tl.minimum(tl.maximum(middle, 0.0), _MOST_SKEW), mask=here)


@triton.jit(do_not_specialize=["rows", "columns"])
def noisier_kernel(deviations, stepped, rows, columns, THREADS: tl.constexpr):
    """Next to a block more than STEP times noisier, its deviation.

    deviations: float32 (b, blocks); stepped: the same, written.
    """
    block = tl.program_id(0) * THREADS + tl.arange(0, THREADS)
    frame = tl.program_id(1).to(tl.int64)
    here = block < rows * columns
    y, x = block // columns, block % columns
    values = deviations + frame * rows * columns
    own = tl.load(values + block, mask=here, other=0.0)
    noisier = own
    for neighbour in range(9):
        i = tl.minimum(tl.maximum(y + neighbour // 3 - 1, 0), rows - 1)
        j = tl.minimum(tl.maximum(x + neighbour % 3 - 1, 0), columns - 1)
        other = tl.load(values + i * columns + j, mask=here, other=0.0)
        noisier = tl.maximum(noisier, other)
    own = tl.where(noisier > own * _STEP, noisier, own)
    tl.store(stepped + frame * rows * columns + block, own, mask=here)


@triton.jit(do_not_specialize=["n_blocks"])
def least_kernel(stepped, least_whole, least, middle, n_blocks, CHUNK: tl.constexpr):
    """The least deviation of each frame, and the median of 1 / deviation.

    Args:
        stepped: float32 (b, blocks), deviations.
        least_whole: float32 (b,), as in moments_kernel.
        least, middle: float32 (b,), written.
    """
    frame = tl.program_id(0).to(tl.int64)
    values = stepped + frame * n_blocks
    a, c = middles(values, n_blocks, n_blocks, 0.0, False, CHUNK)
    lowest = tl.maximum(0.5 * (a + c) * _LEAST_RATIO, tl.load(least_whole + frame))
    lowest = tl.maximum(lowest, 1e-9)
    tl.store(least + frame, lowest)
    a, c = tl.maximum(a, lowest), tl.maximum(c, lowest)
    tl.store(middle + frame, 0.5 * (1.0 / a + 1.0 / c))
