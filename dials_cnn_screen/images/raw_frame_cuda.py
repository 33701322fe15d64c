"""Frames of raw images on a GPU: LZ4, bitshuffle and trusted ranges in Triton.

    lz4_kernel         blocks of LZ4, one program each, of images that are compressed
    unshuffle_kernel   the pixels' bits in order; which pixels count
    squares_kernel     overloaded pixels that may be signal

The pixels are int32, padded to whole blocks of 16 x 16 as a Layout has them.
``misfits`` tells which images are left to the CPU: damaged ones, those with overloaded
pixels that may be signal (overloads_cpu.py), and those with a pixel that counts outside
the layout's mask.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import triton
import triton.language as tl

from dials_cnn_screen.images.batch import UNUSED_INTEGER, Layout
from dials_cnn_screen.images.raw_frame import GROUP, Encoding

# What the map of pixels has for one that the static mask leaves out, one that it leaves
# in, and one that the layout's mask leaves in too.
_OUT, _STATIC, _USED = (tl.constexpr(k) for k in range(3))
_UNUSED = tl.constexpr(int(UNUSED_INTEGER))
# An overloaded pixel; the layout trusts neither.
_OVERLOADED = tl.constexpr(int(UNUSED_INTEGER) + 1)
# Longer ones are in no block.
_LONGEST = tl.constexpr(2**28)
# Bytes copied at once, groups of pixels and pixels of a program. By hand; no GPU was
# at hand to try others.
_LANES, _GROUPS, _PIXELS = 128, 128, 1024


@triton.jit(do_not_specialize=["n_blocks", "block_bytes", "shuffled_bytes"])
def lz4_kernel(
    packed,
    places,
    shuffled,
    damaged,
    n_blocks,
    block_bytes,
    shuffled_bytes,
    LANES: tl.constexpr,
):
    """Decompress a block of LZ4: literals and earlier bytes, in turn.

    A sequence has a byte with the lengths of both, more bytes for long ones, the
    literals, and how far back the earlier bytes are. The last sequence has literals
    alone. (The block format of LZ4, by Y. Collet.)

    Args:
        packed: uint8, the data of a batch.
        places: int32 (b, n_blocks + 1, 2), first byte in packed and number of bytes.
        shuffled: uint8 (b, n_blocks, block_bytes), written.
        damaged: int32 (b,), 1 is written for a damaged block.
        n_blocks, block_bytes, shuffled_bytes: Of an image.
    """
    block, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = places + (frame * (n_blocks + 1) + block) * 2
    at = tl.load(place)
    end = at + tl.load(place + 1)
    size = tl.minimum(block_bytes, shuffled_bytes - block * block_bytes)
    out = shuffled + (frame * n_blocks + block) * block_bytes
    lane = tl.arange(0, LANES)
    to = tl.full([], 0, tl.int32)
    whole = size > 0
    while whole & (at < end):
        lengths = tl.load(packed + at).to(tl.int32)
        n, at = _read_length(packed, at + 1, end, lengths >> 4)
        whole = (n <= end - at) & (n <= size - to)
        n = tl.where(whole, n, 0)
        for first in range(0, n, LANES):
            k = first + lane
            byte = tl.load(packed + at + k, mask=k < n, other=0)
            tl.store(out + to + k, byte, mask=k < n)
        at += n
        to += n
        goes_on = whole & (at < end)
        near = tl.load(packed + at, mask=goes_on, other=0).to(tl.int32)
        far = tl.load(packed + at + 1, mask=goes_on & (at + 1 < end), other=0)
        back = near | (far.to(tl.int32) << 8)
        n, at = _read_length(packed, at + 2, end, lengths & 15)
        n += 4
        inside = (back > 0) & (back <= to) & (n <= size - to) & (at <= end)
        whole = whole & (inside | (goes_on == 0))
        n = tl.where(goes_on & whole, n, 0)
        # What other threads wrote is read from here on.
        tl.debug_barrier()
        start = to - back
        back = tl.maximum(back, 1)
        for first in range(0, n, LANES):
            k = first + lane
            # Bytes that would be read before they are written repeat earlier ones.
            byte = tl.load(out + start + k % back, mask=k < n, other=0)
            tl.store(out + to + k, byte, mask=k < n)
        to += n
    if (whole == 0) | (to != size):
        tl.store(damaged + frame, 1)


@triton.jit
def _read_length(packed, at, end, length):
    """A length and the place after it: 15 has more added to it by the bytes there.

    They end with one under 255.
    """
    more = length == 15
    while more & (at < end):
        byte = tl.load(packed + at).to(tl.int32)
        length = tl.minimum(length + byte, _LONGEST)
        more = byte == 255
        at += 1
    return length, at


@triton.jit(
    do_not_specialize=[
        "n_blocks",
        "n_pixels",
        "n_shuffled",
        "block_pixels",
        "fast",
        "padded_fast",
        "room",
        "low",
        "high",
        "last",
    ]
)
def unshuffle_kernel(
    packed,
    places,
    shuffled,
    kinds,
    frames,
    overloads,
    misfits,
    n_blocks,
    n_pixels,
    n_shuffled,
    block_pixels,
    fast,
    padded_fast,
    room,
    low,
    high,
    last,
    BYTES: tl.constexpr,
    SIGNED: tl.constexpr,
    TOP: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Pixels from their bits; those outside the trusted range are marked.

    Args:
        packed, places: As of lz4_kernel.
        shuffled: uint8 (b, n_blocks, block_pixels * BYTES).
        kinds: uint8 (n_pixels,), _OUT, _STATIC or _USED.
        frames: int32 (b, room), written.
        overloads: int32 (b,), how many overloaded pixels there are; added to.
        misfits: int32 (b,), 1 is written where a pixel counts that is _STATIC.
        n_blocks, n_pixels: Of an image.
        n_shuffled: Pixels of an image that are in blocks, the first ones.
        block_pixels: Of a block.
        fast, padded_fast: Pixels of a row, of the image and of the frame.
        room: Pixels of the frame.
        low, high: The trusted range.
        last: Stands for a pixel without a value, as the number below it does; any
            number where not TOP.
        BYTES, SIGNED: Of a pixel.
    """
    program, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    first = (program * GROUPS + tl.arange(0, GROUPS)[:, None]) * 8  # (GROUPS, 1)
    k = tl.arange(0, 8)[None, :]
    pixel = first + k  # (GROUPS, 8)
    block = first // block_pixels
    start = block * block_pixels
    # Bytes of one bit of all pixels of the block.
    row = tl.minimum(block_pixels, n_shuffled - start) // 8
    here = (first < n_shuffled) & (k < 8)
    bits = shuffled + frame * n_blocks * block_pixels * BYTES
    bits += start * BYTES + (first - start) // 8
    v = tl.zeros([GROUPS, 8], tl.int32)
    for bit in range(8 * BYTES):
        byte = tl.load(bits + bit * row + k * 0, mask=here, other=0).to(tl.int32)
        v |= ((byte >> k) & 1) << bit
    inside = pixel < n_pixels
    in_rest = inside & (here == 0)
    rest = packed + tl.load(places + (frame * (n_blocks + 1) + n_blocks) * 2)
    for i in range(BYTES):
        byte = tl.load(rest + (pixel - n_shuffled) * BYTES + i, mask=in_rest, other=0)
        v |= byte.to(tl.int32) << (8 * i)
    if SIGNED:
        v = (v << (32 - 8 * BYTES)) >> (32 - 8 * BYTES)
    if TOP:
        v = tl.where(v == last, -1, v)
        v = tl.where(v == last - 1, -2, v)
    kind = tl.load(kinds + pixel, mask=inside, other=0).to(tl.int32)
    trusted = (v >= low) & (v <= high)
    overloaded = (kind != _OUT) & (v > high)
    v = tl.where(trusted, v, tl.where(overloaded, _OVERLOADED, _UNUSED))
    v = tl.where(kind == _OUT, 0, v)
    y = pixel // fast
    tl.store(frames + frame * room + y * padded_fast + pixel - y * fast, v, mask=inside)
    n = tl.sum(tl.sum(overloaded.to(tl.int32), axis=1), axis=0)
    if n > 0:
        tl.atomic_add(overloads + frame, n, sem="relaxed")
    lost = (kind == _STATIC) & trusted
    if tl.sum(tl.sum(lost.to(tl.int32), axis=1), axis=0) > 0:
        tl.store(misfits + frame, 1)


@triton.jit(do_not_specialize=["slow", "fast", "padded_fast", "room"])
def squares_kernel(
    frames,
    overloads,
    misfits,
    slow,
    fast,
    padded_fast,
    room,
    PIXELS: tl.constexpr,
):
    """Whether any 2 x 2 pixels are overloaded.

    Args:
        frames, overloads: Of unshuffle_kernel.
        misfits: int32 (b,), 1 is written where there are any.
        slow, fast, padded_fast, room: Pixels of an image, and of a frame.
    """
    program, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if tl.load(overloads + frame) >= 4:
        pixel = program * PIXELS + tl.arange(0, PIXELS)
        y = pixel // fast
        x = pixel - y * fast
        here = (y + 1 < slow) & (x + 1 < fast)
        at = frames + frame * room + y * padded_fast + x
        corner = tl.load(at, mask=here, other=0)
        right = tl.load(at + 1, mask=here, other=0)
        below = tl.load(at + padded_fast, mask=here, other=0)
        across = tl.load(at + padded_fast + 1, mask=here, other=0)
        # The least integer but one: no other is trusted.
        most = tl.maximum(tl.maximum(corner, right), tl.maximum(below, across))
        least = tl.minimum(tl.minimum(corner, right), tl.minimum(below, across))
        square = (most == _OVERLOADED) & (least == _OVERLOADED)
        if tl.sum(square.to(tl.int32), axis=0) > 0:
            tl.store(misfits + frame, 1)


class RawFrameKernels:
    """The kernels with all that they need for batches of b images of one encoding.

    Attributes:
        frames: int32 (b, slow, fast), padded; of the last run.
        misfits: int32 (b,), 0 where a frame is right.
    """

    def __init__(self, layout: Layout, batch: int, device: str) -> None:
        """The layout has an encoding."""
        assert layout.encoding is not None
        self._encoding: Encoding = layout.encoding
        self._n = batch
        self._slow, self._fast = layout.mask.shape
        kinds = np.where(self._encoding.static_mask, _STATIC.value, _OUT.value)
        kinds[layout.mask] = _USED.value

        def new(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._kinds = torch.from_numpy(kinds.astype(np.uint8)).to(device)
        # One that is empty has no place in memory.
        size = max(self._encoding.n_blocks * self._encoding.block_bytes, 16)
        self._shuffled = new(batch, size, dtype=torch.uint8)
        self._damaged, self._overloads = new(batch), new(batch)
        self.misfits = new(batch)
        self.frames = new(batch, *layout.padded)

    def stages(
        self, packed: torch.Tensor, places: torch.Tensor
    ) -> list[tuple[str, Callable[[], None]]]:
        """What makes the frames, by name, in order; each needs those before it.

        Args:
            packed: uint8, the data of raw frames.
            places: int32 (b, blocks + 1, 2), of find_blocks, but in packed; sizes of 0
                where there is no image.
        """
        blocks = [("lz4", lambda: self._decompress(packed, places))]
        return [
            *(blocks if self._encoding.block_bytes else []),
            ("unshuffle", lambda: self._unshuffle(packed, places)),
            ("squares", self._find_squares),
        ]

    def _decompress(self, packed: torch.Tensor, places: torch.Tensor) -> None:
        n_blocks = self._encoding.n_blocks
        self._damaged.zero_()
        lz4_kernel[(n_blocks, self._n)](
            packed,
            places,
            self._shuffled,
            self._damaged,
            n_blocks,
            self._encoding.block_bytes,
            self._encoding.shuffled_bytes,
            LANES=_LANES,
            num_warps=1,
        )

    def _unshuffle(self, packed: torch.Tensor, places: torch.Tensor) -> None:
        self._overloads.zero_()
        self.misfits.copy_(self._damaged)
        encoding, n_pixels = self._encoding, self._kinds.numel()
        size = encoding.dtype.itemsize
        unshuffle_kernel[(triton.cdiv(n_pixels, GROUP * _GROUPS), self._n)](
            packed,
            places,
            self._shuffled,
            self._kinds,
            self.frames,
            self._overloads,
            self.misfits,
            encoding.n_blocks,
            n_pixels,
            encoding.shuffled_pixels,
            max(encoding.block_bytes // size, 1),
            self._fast,
            self.frames.shape[2],
            self.frames[0].numel(),
            encoding.low,
            encoding.high,
            (encoding.top or 1) - 1,
            BYTES=size,
            SIGNED=encoding.dtype.kind == "i",
            TOP=encoding.top is not None,
            GROUPS=_GROUPS,
        )

    def _find_squares(self) -> None:
        squares_kernel[(triton.cdiv(self._kinds.numel(), _PIXELS), self._n)](
            self.frames,
            self._overloads,
            self.misfits,
            self._slow,
            self._fast,
            self.frames.shape[2],
            self.frames[0].numel(),
            PIXELS=_PIXELS,
        )
