"""Arithmetic that the Triton kernels share.

The kernels take frames of (slow, fast) padded to whole blocks of 16 x 16 pixels, masked
where padded: no load of a block needs a check, and rows are aligned. Sizes of frames
are arguments at run time, so that one compilation serves all detectors. They are not
specialised: else one that happens to be 1 would become a constant without a type.

With TRITON_INTERPRET=1, set before Triton is imported, the kernels run on a CPU.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Edge of a block, pixels.
BLOCK = 16


@triton.jit
def to_float(v):
    """Pixels as float32."""
    if v.dtype == tl.uint16:
        return small_to_float(v.to(tl.int32))
    return v.to(tl.float32)


@triton.jit
def small_to_float(v):
    """Integers int32 from 0 to 2^23 - 1 as float32.

    As the last digits of 2^23 they are already in the form of float32: two quick
    instructions in place of a conversion, which takes as long as eight.
    """
    return (v | 0x4B000000).to(tl.float32, bitcast=True) - 8388608.0


@triton.jit
def is_trusted(v, low, high, TRUSTED: tl.constexpr):
    """Whether float32 values are from low to high; NaN is not."""
    if TRUSTED:
        return (v >= low) & (v <= high)
    return v == v


@triton.jit
def popcount(v):
    """Number of bits that are set in int64."""
    v = v - ((v >> 1) & 0x5555555555555555)
    v = (v & 0x3333333333333333) + ((v >> 2) & 0x3333333333333333)
    v = (v + (v >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((v * 0x0101010101010101) >> 56).to(tl.int32) & 0xFF


@triton.jit
def _to_key(v):
    """int32 in the order of float32."""
    bits = v.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _from_key(key):
    """float32 of _to_key's int32."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _distances(values, start, n, centre, ABSOLUTE: tl.constexpr, SIZE: tl.constexpr):
    """Keys (SIZE,) of values, or of their distances from centre; infinity past n."""
    k = start + tl.arange(0, SIZE)
    v = tl.load(values + k, mask=k < n, other=float("inf"))
    if ABSOLUTE:
        v = tl.abs(v - centre)
    return _to_key(v)


@triton.jit
def _select(values, n, k, centre, ABSOLUTE: tl.constexpr, SIZE: tl.constexpr):
    """The k-th least, from 0, of n values, by bisection of its key; and the next."""
    top: tl.constexpr = 0x7FFFFFFF
    low = tl.full([], -2147483648, tl.int64)
    high = tl.full([], top, tl.int64)
    for _ in range(32):
        middle = (low + high) >> 1
        count = tl.full([], 0, tl.int32)
        for start in range(0, n, SIZE):
            key = _distances(values, start, n, centre, ABSOLUTE, SIZE)
            count += tl.sum((key <= middle.to(tl.int32)).to(tl.int32))
        high = tl.where((low < high) & (count > k), middle, high)
        low = tl.where((low < high) & (count <= k), middle + 1, low)
    first = high.to(tl.int32)
    count = tl.full([], 0, tl.int32)
    after = tl.full([], top, tl.int32)
    for start in range(0, n, SIZE):
        key = _distances(values, start, n, centre, ABSOLUTE, SIZE)
        count += tl.sum((key <= first).to(tl.int32))
        after = tl.minimum(after, tl.min(tl.where(key > first, key, top)))
    return _from_key(first), _from_key(tl.where(count > k + 1, first, after))


@triton.jit
def middles(values, n, used, centre, ABSOLUTE: tl.constexpr, SIZE: tl.constexpr):
    """The two middle ones of the finite values; the same one twice of an odd number.

    Args:
        values: Pointer to float32 (n,), infinity where there is none.
        n: Room.
        used: How many are finite.
        centre: ABSOLUTE takes the distances from it in place of the values.
        SIZE: How many are read at once.
    """
    first, second = _select(values, n, (used - 1) // 2, centre, ABSOLUTE, SIZE)
    return first, tl.where(used % 2 == 0, second, first)
