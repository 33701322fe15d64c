"""Images as a file has them, for a GPU: pixels of the detector's type, or compressed.

An image that bitshuffle and LZ4 compressed is a header, blocks of LZ4, and the last
pixels, fewer than eight, as they are. In a block the bits of pixels are in another
order: all first bits, then all second ones. One that is not compressed has no blocks:
all its pixels are as they are. raw_frame_cuda.py makes frames of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.compression import HEADER, decompress
from dials_cnn_screen.images.frame import Frame, as_dxtbx_has, fill_trusted

# Pixels whose bits are shuffled together come in eights.
GROUP = 8
# Places in a batch of 16 images are numbers of 31 bits.
_MOST_BYTES = 2**27 - 1


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the images of a file are stored, and which of their pixels count.

    Attributes:
        dtype: Of the pixels in the file: integers of up to 32 bits.
        block_bytes: Of a block before compression; 0: the images are not compressed.
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
    def compression(self) -> str:
        """As in compression.py."""
        return "bslz4" if self.block_bytes else "none"

    @property
    def n_bytes(self) -> int:
        """Of an image that is not compressed."""
        return self.static_mask.size * self.dtype.itemsize

    @property
    def shuffled_pixels(self) -> int:
        """Pixels of an image that are in blocks."""
        return self.static_mask.size // GROUP * GROUP if self.block_bytes else 0

    @property
    def shuffled_bytes(self) -> int:
        """Bytes of an image that are in blocks, before compression."""
        return self.shuffled_pixels * self.dtype.itemsize

    @property
    def n_blocks(self) -> int:
        """Of an image; the last may be shorter than the others."""
        return -(-self.shuffled_bytes // self.block_bytes) if self.block_bytes else 0

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
class RawFrame:
    """An image as its file has it.

    Attributes:
        data: Its bytes.
        encoding: Of the file.
        beam_centre: (slow, fast), pixels, as in Frame.
    """

    data: bytes
    encoding: Encoding
    beam_centre: tuple[float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        """(slow, fast)."""
        return self.encoding.static_mask.shape

    def find_blocks(self, places: NDArray[np.int32]) -> bool:
        """Find the blocks of the image; whether it has just these.

        Args:
            places: (blocks + 1, 2), first byte and number of bytes of each block, and
                of the pixels that are as they are; written to.
        """
        # Not above: numba takes half a second.
        from dials_cnn_screen.images.raw_frame_cpu import find_blocks

        encoding = self.encoding
        if not encoding.block_bytes:
            places[0] = 0, len(self.data)
            return len(self.data) == encoding.n_bytes
        return find_blocks(
            np.frombuffer(self.data, np.uint8),
            encoding.n_bytes,
            encoding.shuffled_bytes,
            encoding.block_bytes,
            places,
        )

    def frame(self) -> Frame:
        """The frame, as Source reads it.

        Raises:
            ValueError: The image is damaged.
        """
        encoding = self.encoding
        shape, name = encoding.static_mask.shape, encoding.dtype.name
        pixels = decompress(self.data, encoding.compression, shape, name)
        raw = as_dxtbx_has(pixels, encoding.top)
        low, high = raw.dtype.type(encoding.low), raw.dtype.type(encoding.high)
        data, mask, used = fill_trusted(raw, encoding.static_mask, low, high)
        return Frame(data, mask, self.beam_centre, used)


def block_bytes(
    data: bytes, compression: str, dtype: np.dtype, n_pixels: int
) -> int | None:
    """Bytes of a block, as in Encoding; None of an image that kernels cannot take.

    Args:
        data: Of the image.
        compression: none or bslz4.
        dtype, n_pixels: Of the image.
    """
    n_bytes = n_pixels * dtype.itemsize
    if dtype.kind not in "iu" or dtype.itemsize > 4 or n_bytes > _MOST_BYTES:
        return None
    if compression == "none":
        return 0
    if len(data) < HEADER.size or n_pixels < GROUP:
        return None
    claimed, block = HEADER.unpack_from(data)
    if claimed != n_bytes or not 0 < block <= _MOST_BYTES:
        return None
    return block if block % (GROUP * dtype.itemsize) == 0 else None
