"""z, weighted sums and significance of single pixels, for the Triton kernels.

All kernels that compare pixels have z from here, by the same operations in the same
order: along a row of blocks first, then down, as on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.util.kernels_cuda import BLOCK, is_trusted, to_float

_FIRST_CENTRE = tl.constexpr((BLOCK - 1) / 2)
_LEAST_SKEW = tl.constexpr(reference.LEAST_SKEW)
_SUM_SKEW = tl.constexpr(reference.SUM_SKEW)
_HANDICAP = tl.constexpr(reference.PIXEL_HANDICAP)
# Strengths are compared in steps of 1e-4: rounding errors of sums make no order.
_STEPS = tl.constexpr(reference.ROUNDING)
# What may be rounded to the least strength.
_LEAST = tl.constexpr(reference.LEVELS[0] - 1e-4)


@triton.jit
def _step(p, n_blocks):
    """background.steps of a pixel: the blocks around it, and how far along it is."""
    place = (p.to(tl.float32) - _FIRST_CENTRE) * 0.0625
    place = tl.minimum(tl.maximum(place, 0.0), (n_blocks - 1).to(tl.float32))
    low = place.to(tl.int32)
    return low, tl.minimum(low + 1, n_blocks - 1), place - low.to(tl.float32)


@triton.jit
def _between(blocks, above, below, left, right, down, across, columns, here):
    """Bilinear interpolation between four of blocks (rows, columns)."""
    a = tl.load(blocks + above * columns + left, mask=here, other=0.0)
    b = tl.load(blocks + above * columns + right, mask=here, other=0.0)
    c = tl.load(blocks + below * columns + left, mask=here, other=0.0)
    d = tl.load(blocks + below * columns + right, mask=here, other=0.0)
    upper = a + (b - a) * across
    return upper + (c + (d - c) * across - upper) * down


@triton.jit
def interpolate(blocks, y, x, here, rows, columns):
    """The value of blocks (rows, columns) at pixels (y, x); 0 where not here."""
    above, below, down = _step(y, rows)
    left, right, across = _step(x, columns)
    return _between(blocks, above, below, left, right, down, across, columns, here)


@triton.jit
def z_of_pixels(
    data,
    mask,
    mean,
    inverse,
    low,
    high,
    y,
    x,
    here,
    rows,
    columns,
    TRUSTED: tl.constexpr,
):
    """z of pixels (y, x), 0 where not used; and whether they are.

    Args:
        data: The frame, (16 rows, 16 columns).
        mask: uint8 of the same shape.
        mean, inverse: float32 (rows, columns), of blocks.
        low, high: The trusted range, if TRUSTED.
        y, x: int32, may be off the frame.
        here: Which of them are wanted.
    """
    here = here & (y >= 0) & (y < rows * 16) & (x >= 0) & (x < columns * 16)
    at = y * (columns * 16) + x
    here = here & (tl.load(mask + at, mask=here, other=0) != 0)
    v = to_float(tl.load(data + at, mask=here, other=0))
    here = here & is_trusted(v, low, high, TRUSTED)
    above, below, down = _step(y, rows)
    left, right, across = _step(x, columns)
    m = _between(mean, above, below, left, right, down, across, columns, here)
    s = _between(inverse, above, below, left, right, down, across, columns, here)
    return tl.where(here, (v - m) * s, 0.0), here


@triton.jit
def weighted_sums(
    data,
    mask,
    mean,
    inverse,
    low,
    high,
    y,
    x,
    here,
    rows,
    columns,
    TRUSTED: tl.constexpr,
):
    """z of pixels, the weighted sum around them, not yet over NORM; which are used.

    The loop stays a loop: unrolled, it compiles for minutes. Arguments as of
    z_of_pixels.
    """
    total = tl.zeros(y.shape, tl.float32)
    z = total
    used = here
    for k in range(9):
        i, j = k // 3 - 1, k % 3 - 1
        value, there = z_of_pixels(
            data,
            mask,
            mean,
            inverse,
            low,
            high,
            y + i,
            x + j,
            here,
            rows,
            columns,
            TRUSTED,
        )
        total += value * ((2 - i * i) * (2 - j * j))
        z = tl.where(k == 4, value, z)
        used = tl.where(k == 4, there, used)
    return z, total, used


@triton.jit
def significance(height, skew):
    """candidates.significance, in float64 as there."""
    b = 1.0 / tl.maximum(skew.to(tl.float64), _LEAST_SKEW)
    b = b * b
    excess = tl.maximum(height, 0.0).to(tl.float64) * tl.sqrt(b)
    ratio = (b + excess) * tl.log(1.0 + excess / b) - excess
    ratio = tl.sqrt(2.0 * tl.maximum(ratio, 0.0))
    return tl.where(height > 0, ratio.to(tl.float32), height)


@triton.jit
def significances(z, summed, skew):
    """Significance of pixels and of the weighted sums around them."""
    return significance(z, skew), significance(summed, skew * _SUM_SKEW)


@triton.jit
def strength_of_pixels(z, summed, skew, y, x, here, rows, columns):
    """Strength in units of 1e-4, rounded; below LEVELS[0] without skewness.

    Args:
        z: float32.
        summed: float32, weighted sums in standard deviations.
        skew: float32 (rows, columns), of blocks.
        y, x, here: As of z_of_pixels.
    """
    strength = tl.maximum(z - _HANDICAP, summed)
    # Skewness lowers significance and never raises it.
    here = here & (strength >= _LEAST)
    skew = interpolate(skew, y, x, here, rows, columns)
    pixel, of_sum = significances(z, summed, skew)
    strength = tl.where(here, tl.maximum(pixel - _HANDICAP, of_sum), strength)
    return rounded(strength)


@triton.jit
def rounded(strength):
    """Strength (float32, not below 0) in steps, rounded to the nearest, or the even.

    From 2^23 on float32 has whole numbers alone: adding 2^23 rounds.
    """
    steps = strength * _STEPS
    return tl.where(steps < 8388608.0, (steps + 8388608.0) - 8388608.0, steps)
