"""From flagged pixels to the strongest local maxima of each frame of a batch.

A strong pixel is known by a key of 64 bits: the rounded strength above, its place
below, turned round, so that of equal ones the first has the larger key. All keys are
different.

    strong_kernel    flagged pixels: count the low ones, keys of the strong ones
    maxima_kernel    strong pixels that no neighbour exceeds
    ring_kernel      of these the strongest of each ring round the beam
    choose_kernel    the largest keys, and the features of the frame
"""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots.pixels_cuda import strength_of_pixels, weighted_sums

_LEAST = tl.constexpr(1e4 * reference.LEVELS[0])
_LEVELS = tl.constexpr(len(reference.LEVELS))
_DEPTHS = tl.constexpr(len(reference.DEPTHS))
_LEAST_DEPTH = tl.constexpr(reference.DEPTHS[0])
_NORM = tl.constexpr(reference.NORM)
_RING_WIDTH = tl.constexpr(reference.RING_WIDTH)


@triton.jit
def _key(strength, place):
    """int64 of rounded strengths and places."""
    bits = strength.to(tl.int32, bitcast=True).to(tl.int64)
    return (bits << 32) | (0x7FFFFFFF - place).to(tl.int64)


@triton.jit
def strength_of_key(key):
    """The strength in a key, in units of 1e-4."""
    return (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def place_of_key(key):
    """The place in a key."""
    return 0x7FFFFFFF - (key & 0xFFFFFFFF).to(tl.int32)


@triton.jit
def radii(y, x, beam_y, beam_x):
    """candidates.radii of pixels."""
    y, x = y.to(tl.float64) + 0.5 - beam_y, x.to(tl.float64) + 0.5 - beam_x
    return tl.sqrt(y * y + x * x).to(tl.float32)


@triton.jit
def _append(keys, counter, room, key, chosen):
    """Write the chosen keys behind those that are there, as long as there is room."""
    total = tl.sum(chosen.to(tl.int32))
    if total > 0:
        start = tl.atomic_add(counter, total, sem="relaxed")
        slot = start + tl.cumsum(chosen.to(tl.int32)) - 1
        tl.store(keys + slot, key, mask=chosen & (slot < room))


@triton.jit(do_not_specialize=["rows", "columns", "room", "key_room", "b"])
def strong_kernel(
    data,
    mask,
    mean,
    inverse,
    skew,
    low,
    high,
    spread,
    depths,
    flagged,
    n_flagged,
    room,
    keys,
    n_keys,
    key_room,
    n_low,
    b,
    rows,
    columns,
    THREADS: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Keys of the flagged pixels of strength LEVELS[0] or more, and how many are low.

    Args:
        data, mask, mean, inverse, low, high: As in pixels_cuda, for each frame.
        skew: float32 (b, blocks).
        spread: float32 (b,).
        depths: float32 (len(DEPTHS),), DEPTHS.
        flagged, n_flagged, room: Of compact_kernel.
        keys, n_keys: int64 (b, key_room), written; int32 (b,), added to.
        n_low: int32 (len(DEPTHS), b), added to.
    """
    frame = tl.program_id(1).to(tl.int64)
    n = tl.minimum(tl.load(n_flagged + frame), room)
    n_blocks = rows * columns
    data += frame * n_blocks * 256
    mean += frame * n_blocks
    inverse += frame * n_blocks
    skew += frame * n_blocks
    width = columns * 16
    factor = 1.0 / (tl.load(spread + frame) * _NORM)
    step = tl.num_programs(0) * THREADS
    for start in range(tl.program_id(0) * THREADS, n, step):
        k = start + tl.arange(0, THREADS)
        place = tl.load(flagged + frame * room + k, mask=k < n, other=-1)
        here = (place >= 0) & (place < n_blocks * 256)
        place = tl.where(here, place, 0)
        y, x = place // width, place % width
        z, total, here = weighted_sums(
            data, mask, mean, inverse, low, high, y, x, here, rows, columns, TRUSTED
        )
        summed = total * factor
        depth = tl.where(here, -tl.minimum(z, summed), 0.0)
        if tl.max(depth) >= _LEAST_DEPTH:
            for i in range(_DEPTHS):
                deep = (depth >= tl.load(depths + i)).to(tl.int32)
                tl.atomic_add(n_low + i * b + frame, tl.sum(deep), sem="relaxed")
        strength = strength_of_pixels(z, summed, skew, y, x, here, rows, columns)
        strong = here & (strength >= _LEAST)
        key = _key(strength, place)
        _append(keys + frame * key_room, n_keys + frame, key_room, key, strong)


@triton.jit(do_not_specialize=["rows", "columns", "room"])
def maxima_kernel(
    data,
    mask,
    mean,
    inverse,
    skew,
    low,
    high,
    spread,
    strong,
    n_strong,
    maxima,
    n_maxima,
    room,
    rows,
    columns,
    THREADS: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Strong pixels that none of their eight neighbours exceeds.

    Args:
        strong, n_strong: int64 (b, room) and int32 (b,), of strong_kernel.
        maxima, n_maxima: The same, written and added to.
        others: As of strong_kernel.
    """
    frame = tl.program_id(1).to(tl.int64)
    n = tl.minimum(tl.load(n_strong + frame), room)
    n_blocks = rows * columns
    data += frame * n_blocks * 256
    mean += frame * n_blocks
    inverse += frame * n_blocks
    skew += frame * n_blocks
    width = columns * 16
    factor = 1.0 / (tl.load(spread + frame) * _NORM)
    q = tl.arange(0, 8)
    q += (q >= 4).to(tl.int32)  # 0 to 8 without the middle
    step = tl.num_programs(0) * THREADS
    for start in range(tl.program_id(0) * THREADS, n, step):
        k = start + tl.arange(0, THREADS)
        key = tl.load(strong + frame * room + k, mask=k < n, other=0)
        place = tl.where(k < n, place_of_key(key), 0)
        y = (place // width)[:, None] + (q // 3 - 1)[None, :]  # (THREADS, 8)
        x = (place % width)[:, None] + (q % 3 - 1)[None, :]
        near = (k < n)[:, None] & (q >= 0)[None, :]
        z, total, near = weighted_sums(
            data, mask, mean, inverse, low, high, y, x, near, rows, columns, TRUSTED
        )
        other = strength_of_pixels(z, total * factor, skew, y, x, near, rows, columns)
        own = strength_of_key(key)[:, None]
        # Of equal neighbours the first is the maximum.
        lower = (near == 0) | (own > other) | ((own == other) & (q > 4)[None, :])
        maximum = (k < n) & (tl.min(lower.to(tl.int32), axis=1) > 0)
        _append(maxima + frame * room, n_maxima + frame, room, key, maximum)


@triton.jit
def _rings(key, here, beam_y, beam_x, width):
    """Number of the ring of each key; -1 where there is none."""
    place = tl.where(here, place_of_key(key), 0)
    radius = radii(place // width, place % width, beam_y, beam_x)
    return tl.where(here, (radius / _RING_WIDTH).to(tl.int32), -1)


@triton.jit(do_not_specialize=["room", "per_ring", "columns"])
def ring_kernel(
    maxima,
    n_maxima,
    kept,
    n_kept,
    room,
    per_ring,
    beam_centre,
    columns,
    THREADS: tl.constexpr,
):
    """The strongest maxima of each ring.

    Args:
        maxima, n_maxima: int64 (b, room) and int32 (b,), of maxima_kernel.
        kept, n_kept: The same, written and added to.
        per_ring: How many of a ring are kept at most.
        beam_centre: float64 (2,), (slow, fast), pixels.
    """
    frame = tl.program_id(1).to(tl.int64)
    n = tl.minimum(tl.load(n_maxima + frame), room)
    keys = maxima + frame * room
    width = columns * 16
    beam_y, beam_x = tl.load(beam_centre), tl.load(beam_centre + 1)
    step = tl.num_programs(0) * THREADS
    for start in range(tl.program_id(0) * THREADS, n, step):
        k = start + tl.arange(0, THREADS)
        key = tl.load(keys + k, mask=k < n, other=0)
        ring = _rings(key, k < n, beam_y, beam_x, width)
        stronger = tl.zeros([THREADS], tl.int32)
        for other_start in range(0, n, THREADS):
            q = other_start + tl.arange(0, THREADS)
            other = tl.load(keys + q, mask=q < n, other=0)
            rings = _rings(other, q < n, beam_y, beam_x, width)
            same = rings[None, :] == ring[:, None]  # (THREADS, THREADS)
            same &= other[None, :] > key[:, None]
            stronger += tl.sum(same.to(tl.int32), axis=1)
        chosen = (k < n) & (stronger < per_ring)
        _append(kept + frame * room, n_kept + frame, room, key, chosen)


@triton.jit
def _count_from(keys, n, least, SIZE: tl.constexpr):
    """How many of n keys are not below the least."""
    count = tl.full([], 0, tl.int32)
    for start in range(0, n, SIZE):
        k = start + tl.arange(0, SIZE)
        count += tl.sum(
            ((k < n) & (tl.load(keys + k, mask=k < n, other=0) >= least)).to(tl.int32)
        )
    return count


@triton.jit
def _log1p(count):
    return tl.log(1.0 + count.to(tl.float32))


@triton.jit(do_not_specialize=["most", "room", "slots", "b"])
def choose_kernel(
    maxima,
    n_maxima,
    kept,
    n_kept,
    n_low,
    n_used,
    spread,
    levels,
    chosen,
    n_chosen,
    features,
    most,
    room,
    slots,
    b,
    SIZE: tl.constexpr,
):
    """The keys of the strongest, in any order, and the features of the frame.

    Args:
        maxima, n_maxima: Of maxima_kernel, (b, room).
        kept, n_kept: Of ring_kernel, (b, room).
        n_low: int32 (len(DEPTHS), b), of strong_kernel.
        n_used: int32 (b,), used pixels.
        spread: float32 (b,).
        levels: float32 (len(LEVELS),), LEVELS in units of 1e-4.
        chosen: int64 (b, slots), written; n_chosen: int32 (b,), written.
        features: float32 (b, len(LEVELS) + len(DEPTHS) + 3), as network.describe has
            them, written.
        most: How many are kept at most.
        SIZE: How many keys are read at once.
    """
    frame = tl.program_id(0).to(tl.int64)
    keys = kept + frame * room
    n = tl.minimum(tl.load(n_kept + frame), room)
    # The least key that leaves no more than most, by bisection.
    low = tl.full([], 0, tl.int64)
    high = tl.full([], 0x7FFFFFFFFFFFFFFF, tl.int64)
    if n <= most:
        high = low
    for _ in range(63):
        middle = low + ((high - low) >> 1)
        few = _count_from(keys, n, middle, SIZE) <= most
        high = tl.where(few & (low < high), middle, high)
        low = tl.where((few == 0) & (low < high), middle + 1, low)
    done = tl.full([], 0, tl.int32)
    for start in range(0, n, SIZE):
        k = start + tl.arange(0, SIZE)
        key = tl.load(keys + k, mask=k < n, other=0)
        taken = (k < n) & (key >= high)
        slot = done + tl.cumsum(taken.to(tl.int32)) - 1
        tl.store(chosen + frame * slots + slot, key, mask=taken & (slot < most))
        done += tl.sum(taken.to(tl.int32))
    tl.store(n_chosen + frame, done)
    keys = maxima + frame * room
    n = tl.minimum(tl.load(n_maxima + frame), room)
    row = features + frame * (_LEVELS + _DEPTHS + 3)
    for i in range(_LEVELS):
        least = tl.load(levels + i).to(tl.int32, bitcast=True).to(tl.int64) << 32
        tl.store(row + i, _log1p(_count_from(keys, n, least, SIZE)) * 0.25)
    row += _LEVELS
    for i in range(_DEPTHS):
        tl.store(row + i, _log1p(tl.load(n_low + i * b + frame)) * 0.25)
    row += _DEPTHS
    tl.store(row, tl.log(tl.load(spread + frame)))
    tl.store(row + 1, _log1p(done) * 0.25)
    tl.store(row + 2, _log1p(tl.load(n_used + frame)) * 0.1)
