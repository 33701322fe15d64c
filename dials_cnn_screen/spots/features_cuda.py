"""Patches and features of the candidates of a batch: features.describe in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots import features
from dials_cnn_screen.spots.maxima_cuda import place_of_key, radii
from dials_cnn_screen.spots.pixels_cuda import interpolate, significances, z_of_pixels

# Of a patch, and a power of two that holds its pixels as 16 x 16.
_PATCH = tl.constexpr(reference.PATCH)
_REACH = tl.constexpr(reference.REACH)
_N_SCALARS = tl.constexpr(features.N_SCALARS)
_NEIGHBOURHOOD = tl.constexpr(features.NEIGHBOURHOOD**2)
_RING = tl.constexpr(features.RING)
_BROAD_RING = tl.constexpr(features.BROAD_RING)
_RING_BIN = tl.constexpr(features.RING_BIN)
OFFSETS = len(features.RING_OFFSETS)
_OFFSETS = tl.constexpr(OFFSETS)
_NEAREST = tl.constexpr(reference.SURROUNDINGS[0] ** 2)
_FARTHEST = tl.constexpr(reference.SURROUNDINGS[1] ** 2)
_NORM = tl.constexpr(reference.NORM)
# Room for candidates: they are compared with each other at once.
SLOTS = 256
_SLOTS = tl.constexpr(SLOTS)


@triton.jit
def _asinh(v):
    """asinh of float32; by a series near 0, where the logarithm loses digits."""
    a = tl.abs(v)
    far = tl.log(a + tl.sqrt(a * a + 1.0))
    near = a * (1.0 - a * a * (1 / 6.0 - a * a * (3 / 40.0)))
    a = tl.where(a < 0.1, near, far)
    return tl.where(v < 0, -a, a)


@triton.jit
def _log1p(v):
    return tl.log(1.0 + v.to(tl.float32))


@triton.jit(do_not_specialize=["columns"])
def centre_kernel(chosen, n_chosen, beam_centre, offsets, pairs, columns):
    """What features.ring_centre has for one offset, with its number, turned round.

    Args:
        chosen, n_chosen: int64 (b, SLOTS) and int32 (b,), of choose_kernel.
        beam_centre: float64 (2,), (slow, fast), pixels.
        offsets: float64 (OFFSETS, 2), RING_OFFSETS.
        pairs: int64 (b, OFFSETS), written: 256 times the pairs, and OFFSETS - k.
    """
    k, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n = tl.load(n_chosen + frame)
    slow = tl.load(beam_centre) + tl.load(offsets + 2 * k)
    fast = tl.load(beam_centre + 1) + tl.load(offsets + 2 * k + 1)
    chosen += frame * _SLOTS
    own = _bins(chosen, tl.arange(0, _SLOTS), n, slow, fast, columns)
    total = tl.zeros([_SLOTS], tl.int32)
    for start in range(0, n, 16):
        other = _bins(chosen, start + tl.arange(0, 16), n, slow, fast, columns)
        apart = tl.abs(own[:, None] - other[None, :])  # (SLOTS, 16)
        both = (own >= 0)[:, None] & (other >= 0)[None, :]
        total += tl.sum(tl.where(both & (apart < 2), 2 - apart, 0), axis=1)
    key = tl.sum(total).to(tl.int64) * 256 + (_OFFSETS - k)
    tl.store(pairs + frame * _OFFSETS + k, key)


@triton.jit
def _bins(chosen, q, n, slow, fast, columns):
    """Bins of the radii of the chosen q about a point, int32; -1 for none."""
    here = q < n
    place = tl.where(here, place_of_key(tl.load(chosen + q, mask=here, other=0)), 0)
    radius = _distances(place, slow, fast, columns)
    return tl.where(here, (radius / _RING_BIN).to(tl.int32), -1)


@triton.jit
def _distances(place, slow, fast, columns):
    """features.radii_about of places, float64."""
    width = columns * 16
    y, x = (place // width).to(tl.float64), (place % width).to(tl.float64)
    y, x = y + 0.5 - slow, x + 0.5 - fast
    return tl.sqrt(y * y + x * x)


@triton.jit(do_not_specialize=["most", "rows", "columns"])
def describe_kernel(
    data,
    mask,
    mean,
    inverse,
    skew,
    middle,
    low,
    high,
    spread,
    chosen,
    n_chosen,
    beam_centre,
    offsets,
    pairs,
    patches,
    scalars,
    present,
    places,
    most,
    rows,
    columns,
    TRUSTED: tl.constexpr,
):
    """The patch and the features of one candidate, or an empty slot.

    Args:
        data, mask, mean, inverse, low, high: As in pixels_cuda, for each frame.
        skew: float32 (b, blocks).
        middle, spread: float32 (b,).
        chosen, n_chosen: int64 (b, SLOTS) and int32 (b,), of choose_kernel.
        beam_centre: float64 (2,), (slow, fast), pixels.
        offsets, pairs: As of centre_kernel.
        patches: float32 (b, most, 2, 13, 13), written.
        scalars: float32 (b, most, 11), written.
        present: uint8 (b, most), written.
        places: int32 (b, most), y * 16 columns + x, written; -1 in an empty slot.
    """
    slot, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n_blocks, width = rows * columns, columns * 16
    n = tl.load(n_chosen + frame)
    q = tl.arange(0, _SLOTS)
    i, j = q // 16, q % 16
    box = (i < _PATCH) & (j < _PATCH)
    filled = slot < n
    key = tl.load(chosen + frame * _SLOTS + slot, mask=filled, other=0)
    place = tl.where(filled, place_of_key(key), 0)
    y, x = place // width, place % width
    # Among the others: the rank, and the neighbourhood features.
    others = filled & (q < n)
    other = tl.load(chosen + frame * _SLOTS + q, mask=others, other=0)
    rank = tl.where(filled, tl.sum((other > key).to(tl.int32)), slot)
    at = tl.where(others, place_of_key(other), 0)
    dy, dx = at // width - y, at % width - x
    square = (dy * dy + dx * dx).to(tl.float32)
    square = tl.where(others & (q != slot), square, 1e8)
    near = tl.sum((square <= _NEIGHBOURHOOD).to(tl.int32))
    beam_y, beam_x = tl.load(beam_centre), tl.load(beam_centre + 1)
    radius = radii(y, x, beam_y, beam_x)
    k = tl.arange(0, 256)
    keys = tl.load(pairs + frame * _OFFSETS + k, mask=k < _OFFSETS, other=0)
    best = _OFFSETS - (tl.max(keys) & 255).to(tl.int32)
    centre_y = beam_y + tl.load(offsets + 2 * best)
    centre_x = beam_x + tl.load(offsets + 2 * best + 1)
    own = _distances(place, centre_y, centre_x, columns)
    apart = tl.abs(_distances(at, centre_y, centre_x, columns) - own)
    rest = others & (q != slot)
    in_ring = tl.sum((rest & (apart <= _RING)).to(tl.int32))
    in_broad = tl.sum((rest & (apart <= _BROAD_RING)).to(tl.int32))
    # The patch.
    pixels = data + frame * n_blocks * 256
    mean += frame * n_blocks
    inverse += frame * n_blocks
    z, used = z_of_pixels(
        pixels,
        mask,
        mean,
        inverse,
        low,
        high,
        y + i - _REACH,
        x + j - _REACH,
        box & filled,
        rows,
        columns,
        TRUSTED,
    )
    out = frame * most + rank
    patch = patches + out * (2 * _PATCH * _PATCH) + i * _PATCH + j
    tl.store(patch, _asinh(z), mask=box)
    tl.store(patch + _PATCH * _PATCH, tl.where(used, 1.0, 0.0), mask=box)
    # candidates.along_ring
    ay, ax = (i - _REACH).to(tl.float32), (j - _REACH).to(tl.float32)
    ry = (y.to(tl.float64) + 0.5 - beam_y).to(tl.float32)
    rx = (x.to(tl.float64) + 0.5 - beam_x).to(tl.float32)
    distance, from_beam = ay * ay + ax * ax, tl.maximum(ry * ry + rx * rx, 1e-12)
    around = box & used & (distance >= _NEAREST) & (distance <= _FARTHEST)
    cosine = (ax * ax - ay * ay) * (rx * rx - ry * ry) + 4.0 * ax * ay * rx * ry
    cosine = cosine / (tl.maximum(distance, 1.0) * from_beam)
    n_around = tl.maximum(tl.sum(around.to(tl.float32)), 1.0)
    along = -tl.sum(tl.where(around, _asinh(z) * cosine, 0.0)) / n_around
    # The features.
    ci, cj = tl.abs(i - _REACH), tl.abs(j - _REACH)
    weight = tl.where((ci <= 1) & (cj <= 1), (2 - ci) * (2 - cj), 0).to(tl.float32)
    summed = tl.sum(z * weight) / (tl.load(spread + frame) * _NORM)
    centre = tl.sum(tl.where((ci == 0) & (cj == 0), z, 0.0))
    skewness = interpolate(skew + frame * n_blocks, y, x, filled, rows, columns)
    scale = interpolate(inverse, y, x, filled, rows, columns)
    pixel, of_sum = significances(centre, summed, skewness)
    noise = tl.load(middle + frame) / tl.where(filled, scale, 1.0)
    row = scalars + out * _N_SCALARS
    _store(row, _asinh(pixel), filled)
    _store(row + 1, _asinh(of_sum), filled)
    _store(row + 2, tl.log(noise), filled)
    _store(row + 3, skewness, filled)
    _store(row + 4, _log1p(radius) * 0.25, filled)
    _store(row + 5, _log1p(rank) * 0.25, filled)
    _store(row + 6, _log1p(tl.sqrt(tl.min(square))) * 0.25, filled)
    _store(row + 7, _log1p(near) * 0.5, filled)
    _store(row + 8, _log1p(in_ring) * 0.5, filled)
    _store(row + 9, _log1p(in_broad) * 0.5, filled)
    _store(row + 10, 4.0 * along, filled)
    tl.store(present + out, filled.to(tl.uint8))
    tl.store(places + out, tl.where(filled, place, -1))


@triton.jit
def _store(pointer, value, filled):
    """The value, or 0 in an empty slot."""
    tl.store(pointer, tl.where(filled, value, 0.0))
