"""Images as a file has them, compressed by bitshuffle and LZ4, for a GPU.

A chunk of an HDF5 file is one image: a header, blocks of LZ4, and the last pixels,
fewer than eight, as they are. In a block the bits of pixels are in another order: all
first bits, then all second ones. bitshuffle_cuda.py undoes both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.compression import HEADER, decompress
from dials_cnn_screen.images.frame import Frame, fill_trusted, read_only

# Pixels whose bits are shuffled together come in eights.
GROUP = 8
# Bytes of a batch have places in 32 bits. By hand, for 16 frames and more.
_MOST_BYTES = 2**27


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the images of a file are compressed, and which of their pixels count.

    Attributes:
        dtype: Of the pixels in the file: integers of up to 32 bits.
        block_bytes: Of a block before compression.
        static_mask: bool (slow, fast), True = use.
        low, high: The least and the greatest trusted value, ADU; low < high.
        top: As of HDF5Reader: numbers that stand for pixels without a value.
    """

    dtype: np.dtype
    block_bytes: int
    static_mask: NDArray[np.bool_]
    low: int
    high: int
    top: int | None

    @property
    def n_bytes(self) -> int:
        """Of an image before compression."""
        return self.static_mask.size * self.dtype.itemsize

    @property
    def n_blocks(self) -> int:
        """Of an image; the last may be shorter than the others."""
        return -(-self.shuffled_bytes // self.block_bytes)

    @property
    def shuffled_bytes(self) -> int:
        """Bytes of an image that are in blocks."""
        return self.static_mask.size // GROUP * GROUP * self.dtype.itemsize

    def equals(self, other: Encoding) -> bool:
        """Whether another is the same."""
        return (
            self.dtype == other.dtype
            and self.block_bytes == other.block_bytes
            and (self.low, self.high, self.top) == (other.low, other.high, other.top)
            and (
                self.static_mask is other.static_mask
                or np.array_equal(self.static_mask, other.static_mask)
            )
        )


@dataclass(frozen=True, eq=False)
class CompressedFrame:
    """An image that is not decompressed.

    Attributes:
        chunk: As the file has it.
        encoding: Of the file.
        beam_centre: (slow, fast), pixels, as in Frame.
    """

    chunk: bytes
    encoding: Encoding
    beam_centre: tuple[float, float]

    def decompress(self) -> Frame:
        """The frame, as Source reads it.

        Raises:
            ValueError: The chunk is damaged.
        """
        # Not above: numba takes half a second.
        from dials_cnn_screen.images.frame_cpu import mark_pixels

        encoding = self.encoding
        shape, dtype = encoding.static_mask.shape, encoding.dtype
        raw = decompress(self.chunk, "bslz4", shape, dtype.name)
        # As dxtbx takes numbers without a sign.
        raw = raw.view(np.int32) if dtype == np.uint32 else raw
        if encoding.top is not None:
            unmarked, raw = raw, np.empty(shape, np.int32)
            mark_pixels(read_only(unmarked), encoding.top, raw)
        low, high = raw.dtype.type(encoding.low), raw.dtype.type(encoding.high)
        data, mask, used = fill_trusted(raw, encoding.static_mask, low, high)
        return Frame(data, mask, self.beam_centre, used)


def block_bytes(chunk: bytes, dtype: np.dtype, n_pixels: int) -> int | None:
    """Bytes of a block of a chunk; None where kernels cannot take it.

    Args:
        chunk: As the file has it.
        dtype, n_pixels: Of the image.
    """
    if len(chunk) < HEADER.size or dtype.kind not in "iu" or dtype.itemsize > 4:
        return None
    n_bytes, block = HEADER.unpack_from(chunk)
    fits = n_bytes == n_pixels * dtype.itemsize and n_pixels >= GROUP
    if not fits or n_bytes > _MOST_BYTES or not 0 < block <= _MOST_BYTES:
        return None
    return block if block % (GROUP * dtype.itemsize) == 0 else None
