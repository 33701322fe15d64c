"""Preprocessing on a GPU: preprocessing.prepare for batches of frames, in Triton.

One pass bins 2 x 2 pixels, crops and normalises the local contrast. LCN does not
change where a frame is shifted or scaled, so that the frame's mean and deviation are
needed only to tell what is flat. They are summed up on the way, and a frame on which
they would matter does not fit: it is left to the CPU.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.ke2018 import preprocessing as reference
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.util.kernels_cuda import is_trusted, small_to_float

# Rows of the crop that one element of a program goes down, and elements of a program.
_ROWS, _THREADS = 20, 128
# What no more than the rounding of two sums leaves is flat.
_ROUNDING = tl.constexpr(2e-6)
_LARGE = tl.constexpr(3e38)


@triton.jit
def _mirror(index, length):
    """An index reflected about the first and last of so many elements."""
    index = tl.where(index < 0, -index, index)
    return tl.where(index >= length, 2 * (length - 1) - index, index)


@triton.jit
def _pair(at, here):
    """Two neighbours as float32, read as one word."""
    if at.dtype.element_ty == tl.uint16:
        word = tl.load(at.to(tl.pointer_type(tl.int32)), mask=here, other=0)
        return small_to_float(word & 0xFFFF), small_to_float((word >> 16) & 0xFFFF)
    word = tl.load(at.to(tl.pointer_type(tl.int64)), mask=here, other=0)
    a, b = word.to(tl.int32), (word >> 32).to(tl.int32)
    if at.dtype.element_ty == tl.float32:
        return a.to(tl.float32, bitcast=True), b.to(tl.float32, bitcast=True)
    return a.to(tl.float32), b.to(tl.float32)


@triton.jit
def _bin(
    data,
    quads,
    y,
    x,
    here,
    row,
    column,
    width,
    size,
    low,
    high,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """The mean of the used pixels of bins (y, x) of the crop; 1 where there are any.

    Args:
        data: The frame, ``width`` pixels wide.
        quads: uint8 (size, size), a bit for each used pixel of a bin.
        here: Which bins are wanted.
        row, column: Where the crop starts, bins.
        low, high: The trusted range, if TRUSTED.
    """
    at = data + 2 * (row + y) * width + 2 * (column + x)
    quad = 15
    if not FULL:
        quad = tl.load(quads + y * size + x, mask=here, other=0).to(tl.int32)
        here = quad != 0
    a, b = _pair(at, here)
    c, d = _pair(at + width, here)
    if FULL:
        return (a + b + c + d) * 0.25, tl.where(here, 1.0, 0.0)
    use_a = ((quad & 1) != 0) & is_trusted(a, low, high, TRUSTED)
    use_b = ((quad & 2) != 0) & is_trusted(b, low, high, TRUSTED)
    use_c = ((quad & 4) != 0) & is_trusted(c, low, high, TRUSTED)
    use_d = ((quad & 8) != 0) & is_trusted(d, low, high, TRUSTED)
    total = tl.where(use_a, a, 0.0) + tl.where(use_b, b, 0.0)
    total += tl.where(use_c, c, 0.0) + tl.where(use_d, d, 0.0)
    n = use_a.to(tl.int32) + use_b.to(tl.int32)
    n += use_c.to(tl.int32) + use_d.to(tl.int32)
    return total / tl.maximum(n, 1).to(tl.float32), tl.where(n > 0, 1.0, 0.0)


@triton.jit
def _line(
    data,
    quads,
    y,
    x,
    here,
    base,
    row,
    column,
    width,
    size,
    low,
    high,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Over the five bins about x of line y, mirrored at the edges.

    Returns:
        Their number; the sum and sum of squares of what is above base; the middle one
        and whether it is used.
    """
    y = _mirror(y, size)
    n = tl.zeros(x.shape, tl.float32)
    total = n
    square = n
    middle = n
    use = n
    crop = (row, column, width, size, low, high)
    for k in tl.static_range(5):
        at = _mirror(x + k - 2, size)
        v, used = _bin(data, quads, y, at, here, *crop, FULL, TRUSTED)
        above = v - base
        if not FULL:
            above = tl.where(used > 0, above, 0.0)
        n += used
        total += above
        square += above * above
        if k == 2:
            middle = above
            use = used
    return n, total, square, middle, use


@triton.jit
def _no_line(x):
    """Five zeros for what _line gives.

    Each has to be a tensor of its own: the compiler takes a variable for constant in a
    loop, if it is given another one's value there, and both start as one tensor.
    """
    shape: tl.constexpr = x.shape
    return (
        tl.zeros(shape, tl.float32),
        tl.zeros(shape, tl.float32),
        tl.zeros(shape, tl.float32),
        tl.zeros(shape, tl.float32),
        tl.zeros(shape, tl.float32),
    )


@triton.jit
def _least_of_line(
    data,
    quads,
    y,
    x,
    here,
    row,
    column,
    width,
    size,
    low,
    high,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """The least used of the five bins about x of line y; _LARGE where there is none."""
    y = _mirror(y, size)
    crop = (row, column, width, size, low, high)
    least = tl.zeros(x.shape, tl.float32) + _LARGE
    for k in range(5):
        at = _mirror(x + k - 2, size)
        v, used = _bin(data, quads, y, at, here, *crop, FULL, TRUSTED)
        least = tl.minimum(least, tl.where(used > 0, v, least))
    return least


@triton.jit
def _normalise(
    data,
    quads,
    out,
    x,
    top,
    here,
    origin,
    row,
    column,
    width,
    size,
    low,
    high,
    ROWS: tl.constexpr,
    FULL: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """LCN of ROWS bins down from (top, x) each.

    Returns:
        Sum and sum of squares of the bins above origin, their number, and the least
        local variance.
    """
    crop = (row, column, width, size, low, high)
    zero = tl.zeros(x.shape, tl.float32)
    # Sums above a value of the background keep their digits.
    base = zero + _LARGE
    for k in range(2):
        y = top + k * (ROWS // 2)
        line = _least_of_line(data, quads, y, x, here, *crop, FULL, TRUSTED)
        base = tl.minimum(base, line)
    base = tl.where(base < _LARGE, base, 0.0)
    shift = base - origin
    # The last five lines, the newest last; their middle is written, from the fifth on.
    n1, t1, s1, _, _ = _no_line(x)
    n2, t2, s2, _, _ = _no_line(x)
    n3, t3, s3, m3, u3 = _no_line(x)
    n4, t4, s4, m4, u4 = _no_line(x)
    total = zero
    square = zero
    count = zero
    least = zero + _LARGE
    for r in range(ROWS + 4):
        y = top + r - 4
        n5, t5, s5, m5, u5 = _line(
            data, quads, y + 2, x, here, base, *crop, FULL, TRUSTED
        )
        n = n1 + n2 + n3 + n4 + n5
        t = t1 + t2 + t3 + t4 + t5
        s = n * (s1 + s2 + s3 + s4 + s5)
        # n squared times equation 9, and n times the difference of equation 7.
        variance = s - t * t
        inside = here & (r >= 4) & (y < size)
        use = inside & (u3 > 0)
        keep = use & (variance > s * _ROUNDING)
        least = tl.where(keep, tl.minimum(least, variance / (n * n)), least)
        value = (n * m3 - t) * tl.rsqrt(tl.where(keep, variance, 1.0))
        value = tl.where(keep, value, 0.0)
        tl.store(out + y * size + x, value, mask=inside)
        own = tl.where(use, m3 + shift, 0.0)
        total += own
        square += own * own
        count += tl.where(use, 1.0, 0.0)
        n1, t1, s1 = n2, t2, s2
        n2, t2, s2 = n3, t3, s3
        n3, t3, s3, m3, u3 = n4, t4, s4, m4, u4
        n4, t4, s4, m4, u4 = n5, t5, s5, m5, u5
    return total, square, count, least


@triton.jit(do_not_specialize=["row", "column", "n_pixels", "width", "size"])
def lcn_kernel(
    data,
    quads,
    full,
    out,
    sums,
    least,
    origins,
    low,
    high,
    row,
    column,
    n_pixels,
    width,
    size,
    ROWS: tl.constexpr,
    THREADS: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """The network's input, and what tells whether a frame fits.

    Args:
        data: Frames of n_pixels pixels.
        quads: uint8 (size, size), the crop's mask as in _bin.
        full: int32 (programs,), whether all pixels that a program sees are used.
        out: float32 (b, size, size), written.
        sums: float64 (3, b), sum, sum of squares and number of bins, added to.
        least: int32 (b,), bits of the least local variance, float32.
        origins: float32 (b,), a value of each frame.
    """
    program, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    width = width * 16  # known to be even
    at = program * THREADS + tl.arange(0, THREADS)
    x, top = at % size, at // size * ROWS
    here = top < size
    pixels = data + frame * n_pixels
    origin = tl.load(origins + frame)
    image = out + frame * size * size
    crop = (row, column, width, size, low, high)
    if tl.load(full + program) != 0:
        total, square, count, lowest = _normalise(
            pixels, quads, image, x, top, here, origin, *crop, ROWS, True, TRUSTED
        )
    else:
        total, square, count, lowest = _normalise(
            pixels, quads, image, x, top, here, origin, *crop, ROWS, False, TRUSTED
        )
    b = tl.num_programs(1)
    tl.atomic_add(sums + frame, tl.sum(total.to(tl.float64)), sem="relaxed")
    tl.atomic_add(sums + b + frame, tl.sum(square.to(tl.float64)), sem="relaxed")
    tl.atomic_add(sums + 2 * b + frame, tl.sum(count.to(tl.float64)), sem="relaxed")
    # Positive float32 are in the order of their bits.
    bits = tl.min(lowest).to(tl.int32, bitcast=True)
    tl.atomic_min(least + frame, bits, sem="relaxed")


class PreprocessingKernels:
    """The kernel with all that it needs for batches of b frames of one layout.

    Attributes:
        images: float32 (b, 1, size, size), of the frames of the last run.
        fits: bool (b,), whether they are right.
    """

    def __init__(
        self, layout: Layout, preprocessing: Preprocessing, batch: int, device: str
    ) -> None:
        self._layout = layout
        self._size = size = preprocessing.size
        slow, fast = (c / preprocessing.binning for c in layout.beam_centre)
        self._corner = reference.crop_corner((slow, fast), size)
        quads = _quads(layout.mask, (slow, fast), size)
        full = _full_programs(quads)
        if layout.trusted is not None:
            full[:] = False
        self._quads = torch.from_numpy(quads).to(device)
        self._full = torch.from_numpy(full.astype(np.int32)).to(device)
        # A used pixel in the middle, whose value is near the frame's mean or not: any
        # does that is not far from it.
        used = np.flatnonzero(layout.padded_mask)
        self._origin = int(used[len(used) // 2]) if len(used) else 0
        self._sums = torch.zeros(3, batch, dtype=torch.float64, device=device)
        self._least = torch.zeros(batch, dtype=torch.int32, device=device)
        self.images = torch.zeros(batch, 1, size, size, device=device)
        self.fits = torch.zeros(batch, dtype=torch.bool, device=device)

    def run(self, frames: torch.Tensor) -> None:
        """Prepare frames (b, slow, fast), padded."""
        self._sums.zero_()
        self._least.fill_(0x7F000000)  # 2e38
        low, high = self._layout.trusted or (0.0, 0.0)
        pixels = frames.view(len(frames), -1)
        origins = pixels[:, self._origin].to(torch.float32)  # (b,)
        if self._layout.trusted is not None:
            trusted = (origins >= low) & (origins <= high)
            origins = torch.where(trusted, origins, 0.0)
        lcn_kernel[(len(self._full), len(frames))](
            frames,
            self._quads,
            self._full,
            self.images,
            self._sums,
            self._least,
            origins,
            low,
            high,
            *self._corner,
            pixels.shape[1],
            frames.shape[2] // 16,
            self._size,
            ROWS=_ROWS,
            THREADS=_THREADS,
            TRUSTED=self._layout.trusted is not None,
        )
        total, square, count = self._sums  # (b,) each
        mean = total / count
        variance = square / count - mean * mean
        mean = mean + origins
        least = self._least.view(torch.float32)
        flat = reference.FLAT**2
        self.fits.copy_((variance > flat * mean * mean) & (least > flat * variance))


def _quads(
    mask: NDArray[np.bool_], centre: tuple[float, float], size: int
) -> NDArray[np.uint8]:
    """The mask of the bins of the crop, uint8 (size, size), a bit a pixel."""
    rows, columns = (n // 2 for n in mask.shape)
    cut = mask[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    weights = np.array([[1, 2], [4, 8]], np.uint8)
    quads = np.einsum("iajb,ab->ij", cut.astype(np.uint8), weights)  # (rows, columns)
    return np.ascontiguousarray(reference.crop(quads, quads > 0, centre, size)[0])


def _full_programs(quads: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether all pixels that a program sees are used, bool (programs,)."""
    size = len(quads)
    reach = reference.LCN_WINDOW // 2
    strips = -(-size // _ROWS)
    # Each element sees two bins more at each side and, past the end, rows mirrored.
    index = np.abs(np.arange(-reach, strips * _ROWS + reach))
    index = np.where(index >= size, np.abs(2 * (size - 1) - index), index)
    lines = quads[index] == 15  # (rows + 4, size)
    lines = np.pad(lines, ((0, 0), (reach, reach)), mode="reflect")
    shifts = range(reference.LCN_WINDOW)
    lines = np.all([lines[:, k : k + size] for k in shifts], axis=0)
    seen = [lines[k : k + strips * _ROWS] for k in shifts]
    of_strips = np.all(seen, axis=0).reshape(strips, _ROWS, size).all(axis=1)
    programs = -(-of_strips.size // _THREADS)
    room = programs * _THREADS - of_strips.size
    # Elements past the end read nothing that is not masked.
    padded = np.pad(of_strips.ravel(), (0, room))
    return padded.reshape(programs, _THREADS).all(axis=1)
