"""Which pixels of a batch may be maxima or low: the second pass over all pixels.

flag_kernel sets a bit for each pixel whose |z| or weighted sum is high. It computes z
in the quickest way, and so finds a few more than there are, never fewer; what is
decided about them is computed again (maxima_cuda.py). compact_kernel lists them.

A word of flag_kernel is a segment of 16 rows, from 8 above a block's first row on, and
a group of 4 columns: so all its pixels are between the centres of the same blocks, but
those of the rows and columns around it that its weighted sums need.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.util.kernels_cuda import (
    is_trusted,
    popcount,
    small_to_float,
    to_float,
)

# Somewhat less than any strength or depth that counts, so that rounding loses none: a
# pixel counts from PIXEL_HANDICAP above the least strength, or at the least depth.
_SUM_LIMIT = tl.constexpr(0.999 * reference.LEVELS[0] * reference.NORM)
_PIXEL_LIMIT = tl.constexpr(
    0.999 * min(reference.LEVELS[0] + reference.PIXEL_HANDICAP, reference.DEPTHS[0])
)


@triton.jit
def _row_of_blocks(blocks, c0, c1, c2, c3, first, last, across):
    """Blocks interpolated along a row of them, at columns x - 1 to x + 4 of a group.

    Args:
        blocks: Pointer to the row's first block.
        c0, c1, c2, c3: The blocks around: the group is between c1 and c2.
        first, last: Whether it is the first or last group between them.
        across: How far column x is from c1 to c2.
    """
    v0, v1, v2, v3 = (
        tl.load(blocks + c0),
        tl.load(blocks + c1),
        tl.load(blocks + c2),
        tl.load(blocks + c3),
    )
    slope = v2 - v1
    left = tl.where(first, v0 + (v1 - v0) * 0.96875, v1 + slope * (across - 0.0625))
    right = tl.where(last, v2 + (v3 - v2) * 0.03125, v1 + slope * (across + 0.25))
    return (
        left,
        v1 + slope * across,
        v1 + slope * (across + 0.0625),
        v1 + slope * (across + 0.125),
        v1 + slope * (across + 0.1875),
        right,
    )


@triton.jit
def _minus(a, b):
    """Difference of two rows of six."""
    return (
        a[0] - b[0],
        a[1] - b[1],
        a[2] - b[2],
        a[3] - b[3],
        a[4] - b[4],
        a[5] - b[5],
    )


@triton.jit
def _four_pixels(at, here, FULL: tl.constexpr):
    """Four neighbours as float32, read as one or two words of 64 bits."""
    words = at.to(tl.pointer_type(tl.int64))
    if FULL:
        ab = tl.load(words)
    else:
        ab = tl.load(words, mask=here, other=0)
    if at.dtype.element_ty == tl.uint16:
        a, c = ab.to(tl.int32), (ab >> 32).to(tl.int32)
        return (
            small_to_float(a & 0xFFFF),
            small_to_float((a >> 16) & 0xFFFF),
            small_to_float(c & 0xFFFF),
            small_to_float((c >> 16) & 0xFFFF),
        )
    if FULL:
        cd = tl.load(words + 1)
    else:
        cd = tl.load(words + 1, mask=here, other=0)
    a, b = ab.to(tl.int32), (ab >> 32).to(tl.int32)
    c, d = cd.to(tl.int32), (cd >> 32).to(tl.int32)
    if at.dtype.element_ty == tl.float32:
        return (
            a.to(tl.float32, bitcast=True),
            b.to(tl.float32, bitcast=True),
            c.to(tl.float32, bitcast=True),
            d.to(tl.float32, bitcast=True),
        )
    return a.to(tl.float32), b.to(tl.float32), c.to(tl.float32), d.to(tl.float32)


@triton.jit
def _z(v, mean, inverse, used, low, high, FULL: tl.constexpr, TRUSTED: tl.constexpr):
    z = (v - mean) * inverse
    if TRUSTED:
        z = tl.where(is_trusted(v, low, high, TRUSTED), z, 0.0)
    if not FULL:
        z = tl.where(used != 0, z, 0.0)
    return z


@triton.jit
def _row_of_sums(
    data,
    bits,
    y,
    group,
    here,
    mean,
    d_mean,
    inverse,
    d_inverse,
    down,
    low,
    high,
    rows,
    columns,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Row y of groups: z weighted (1 2 1) along the row; four bits where |z| is high.

    Args:
        data: The frame.
        bits: uint8 (16 rows, groups), the mask at columns x - 1 to x + 4 of each group.
        y, group, here: The row, the group, and which of them are on the frame.
        mean, inverse: Of the blocks above; d_mean, d_inverse: to those below.
        down: How far the row is from the ones to the others.
    """
    groups = columns * 4
    at = data + y * (groups * 4) + group * 4
    if FULL:
        used = 63
        left, right = tl.load(at - 1), tl.load(at + 4)
    else:
        here = here & (y >= 0) & (y < rows * 16)
        used = tl.load(bits + y * groups + group, mask=here, other=0).to(tl.int32)
        left = tl.load(at - 1, mask=(used & 1) != 0, other=0)
        right = tl.load(at + 4, mask=(used & 32) != 0, other=0)
    v1, v2, v3, v4 = _four_pixels(at, here, FULL)
    v0, v5 = to_float(left), to_float(right)
    m, dm, s, ds, t = mean, d_mean, inverse, d_inverse, down
    z0 = _z(v0, m[0] + dm[0] * t, s[0] + ds[0] * t, used & 1, low, high, FULL, TRUSTED)
    z1 = _z(v1, m[1] + dm[1] * t, s[1] + ds[1] * t, used & 2, low, high, FULL, TRUSTED)
    z2 = _z(v2, m[2] + dm[2] * t, s[2] + ds[2] * t, used & 4, low, high, FULL, TRUSTED)
    z3 = _z(v3, m[3] + dm[3] * t, s[3] + ds[3] * t, used & 8, low, high, FULL, TRUSTED)
    z4 = _z(v4, m[4] + dm[4] * t, s[4] + ds[4] * t, used & 16, low, high, FULL, TRUSTED)
    z5 = _z(v5, m[5] + dm[5] * t, s[5] + ds[5] * t, used & 32, low, high, FULL, TRUSTED)
    sums = (
        z0 + 2.0 * z1 + z2,
        z1 + 2.0 * z2 + z3,
        z2 + 2.0 * z3 + z4,
        z3 + 2.0 * z4 + z5,
    )
    return sums, _bits_from((z1, z2, z3, z4), _PIXEL_LIMIT)


@triton.jit
def _bits_from(values, limit):
    """Four bits, int32: which of four values are as far from 0 as the limit."""
    word = tl.where(tl.abs(values[0]) >= limit, 1, 0)
    word |= tl.where(tl.abs(values[1]) >= limit, 2, 0)
    word |= tl.where(tl.abs(values[2]) >= limit, 4, 0)
    return word | tl.where(tl.abs(values[3]) >= limit, 8, 0)


@triton.jit
def _plus(a, factor, b):
    """Rows of four: a + factor b."""
    return (
        a[0] + factor * b[0],
        a[1] + factor * b[1],
        a[2] + factor * b[2],
        a[3] + factor * b[3],
    )


@triton.jit
def _flags(
    data,
    bits,
    mean,
    inverse,
    low,
    high,
    limit,
    segment,
    group,
    here,
    rows,
    columns,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """The words of segments and groups: 4 bits a row, the first row lowest."""
    x, y = group * 4, segment * 16 - 8
    c = (x + 8) // 16 - 1
    c0, c1 = tl.maximum(c - 1, 0), tl.maximum(c, 0)
    c2, c3 = tl.minimum(c + 1, columns - 1), tl.minimum(c + 2, columns - 1)
    first, last = x % 16 == 8, x % 16 == 4
    across = ((x + 8) % 16).to(tl.float32) * 0.0625 + 0.03125
    # Four rows of blocks: the segment is between r1 and r2.
    r0, r1 = tl.maximum(segment - 2, 0) * columns, tl.maximum(segment - 1, 0) * columns
    r2 = tl.minimum(segment, rows - 1) * columns
    r3 = tl.minimum(segment + 1, rows - 1) * columns
    m0 = _row_of_blocks(mean + r0, c0, c1, c2, c3, first, last, across)
    s0 = _row_of_blocks(inverse + r0, c0, c1, c2, c3, first, last, across)
    m1 = _row_of_blocks(mean + r1, c0, c1, c2, c3, first, last, across)
    s1 = _row_of_blocks(inverse + r1, c0, c1, c2, c3, first, last, across)
    m2 = _row_of_blocks(mean + r2, c0, c1, c2, c3, first, last, across)
    s2 = _row_of_blocks(inverse + r2, c0, c1, c2, c3, first, last, across)
    m3 = _row_of_blocks(mean + r3, c0, c1, c2, c3, first, last, across)
    s3 = _row_of_blocks(inverse + r3, c0, c1, c2, c3, first, last, across)
    frame = (data, bits)
    size = (low, high, rows, columns)
    blocks = (m0, _minus(m1, m0), s0, _minus(s1, s0))
    above, _ = _row_of_sums(
        *frame, y - 1, group, here, *blocks, 0.96875, *size, FULL, TRUSTED
    )
    blocks = (m1, _minus(m2, m1), s1, _minus(s2, s1))
    now, word = _row_of_sums(
        *frame, y, group, here, *blocks, 0.03125, *size, FULL, TRUSTED
    )
    words = word.to(tl.int64)
    above = _plus(above, 2.0, now)
    down = 0.09375
    for r in range(15):
        below, word = _row_of_sums(
            *frame, y + r + 1, group, here, *blocks, down, *size, FULL, TRUSTED
        )
        word = word * 16 | _bits_from(_plus(above, 1.0, below), limit)
        words |= word.to(tl.int64) << (4 * r)
        above = _plus(now, 2.0, below)
        now = below
        down += 0.0625
    blocks = (m2, _minus(m3, m2), s2, _minus(s3, s2))
    below, _ = _row_of_sums(
        *frame, y + 16, group, here, *blocks, 0.03125, *size, FULL, TRUSTED
    )
    word = _bits_from(_plus(above, 1.0, below), limit)
    return words | (word.to(tl.int64) << 60)


@triton.jit(do_not_specialize=["rows", "columns"])
def flag_kernel(
    data,
    bits,
    kinds,
    mean,
    inverse,
    low,
    high,
    spread,
    words,
    rows,
    columns,
    THREADS: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """A bit for each pixel that may be a maximum or low.

    Args:
        data, mean, inverse, low, high: As in pixels_cuda, for each frame.
        bits: uint8 (16 rows, groups), the mask at x - 1 to x + 4 of each group.
        kinds: int32 (programs,), 1 where all pixels that count are used and on the
            frame, 2 where none is, else 0.
        spread: float32 (b,).
        words: int64 (b, segments, groups), written.
    """
    program, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    groups, n_blocks = columns * 4, rows * columns
    n = (rows + 1) * groups
    at = program * THREADS + tl.arange(0, THREADS)
    here = at < n
    segment, group = at // groups, at % groups
    pixels = data + frame * n_blocks * 256
    mean += frame * n_blocks
    inverse += frame * n_blocks
    limit = tl.load(spread + frame) * _SUM_LIMIT
    kind = tl.load(kinds + program)
    found = tl.zeros([THREADS], tl.int64)
    if kind == 1:
        found = _flags(
            pixels,
            bits,
            mean,
            inverse,
            low,
            high,
            limit,
            segment,
            group,
            here,
            rows,
            columns,
            True,
            TRUSTED,
        )
    elif kind == 0:
        found = _flags(
            pixels,
            bits,
            mean,
            inverse,
            low,
            high,
            limit,
            segment,
            group,
            here,
            rows,
            columns,
            False,
            TRUSTED,
        )
    tl.store(words + frame * n + at, found, mask=here)


@triton.jit(do_not_specialize=["rows", "columns", "room"])
def compact_kernel(
    words, flagged, n_flagged, rows, columns, room, THREADS: tl.constexpr
):
    """The places of the bits that are set, in any order.

    Args:
        words: int64 (b, segments, groups), of flag_kernel.
        flagged: int32 (b, room), y * 16 columns + x of each, written.
        n_flagged: int32 (b,), how many, added to; may be more than room.
    """
    frame = tl.program_id(1).to(tl.int64)
    groups = columns * 4
    n = (rows + 1) * groups
    at = tl.program_id(0) * THREADS + tl.arange(0, THREADS)
    word = tl.load(words + frame * n + at, mask=at < n, other=0)
    count = popcount(word)
    total = tl.sum(count)
    if total > 0:
        place = tl.atomic_add(n_flagged + frame, total, sem="relaxed")
        place += tl.cumsum(count) - count
        corner = (at // groups * 16 - 8) * (groups * 4) + at % groups * 4
        for _ in range(tl.max(count)):
            bit = popcount((word & -word) - 1)
            pixel = corner + bit // 4 * (groups * 4) + bit % 4
            there = (word != 0) & (place < room)
            tl.store(flagged + frame * room + place, pixel, mask=there)
            word = word & (word - 1)
            place += 1
