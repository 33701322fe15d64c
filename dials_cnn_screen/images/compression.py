"""Pixels of messages and files: how they are compressed, and how many they may be.

The sizes that a message claims are compared with its shape before memory is taken.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import MAX_IMAGE_PIXELS

# Of unsigned and signed integers and floating-point numbers, little-endian.
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "uint32", "int16", "int32", "float32", "float64")
}
# Uncompressed size (8 bytes) and size of a block (4 bytes) at the start of what the
# HDF5 filters for LZ4 and bitshuffle write.
HEADER = struct.Struct(">QI")
# Bytes, by hand: writers take 8 kB. For senders, one that Python can loop over.
_MOST_BLOCK, _BLOCK = 2**24, 2**18


def check_shape(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """The shape of an image as a tuple.

    Args:
        shape: (slow, fast), or (panels, slow, fast).
        dtype: By name.

    Raises:
        ValueError: It is no shape of an image, or there is no such type.
    """
    numbers = tuple(shape) if isinstance(shape, list | tuple) else ()
    if not (
        len(numbers) in (2, 3)
        and all(type(n) is int and n > 0 for n in numbers)
        and math.prod(numbers) <= MAX_IMAGE_PIXELS
    ):
        raise ValueError(
            f"the shape {str(shape)[:80]} is none of an image, or of more than "
            f"{MAX_IMAGE_PIXELS} pixels"
        )
    if dtype not in DTYPES:
        raise ValueError(f"pixels of type {str(dtype)[:40]!r} are not known")
    return numbers


def decompress(
    data: bytes | memoryview, compression: str, shape: tuple[int, ...], dtype: str
) -> NDArray:
    """The pixels of an image.

    Args:
        data: As sent.
        compression: none; lz4 or bslz4, in the form of the HDF5 filters; or block, one
            block of LZ4.
        shape, dtype: Of check_shape.

    Returns:
        An array of this shape and type, which may be of the bytes that were sent.

    Raises:
        ValueError: The data are not of this size, or damaged; or what decompresses
            them is not installed.
    """
    n_bytes = math.prod(shape) * DTYPES[dtype].itemsize
    if compression == "none":
        pixels: bytes | memoryview = data
    elif compression == "block":
        pixels = _decompress_block(data, n_bytes)
    elif compression in ("lz4", "bslz4"):
        pixels = _decompress_filtered(data, compression, n_bytes, dtype)
    else:
        raise ValueError(f"the compression {str(compression)[:40]!r} is not known")
    if len(pixels) != n_bytes:
        raise ValueError(f"the image has {len(pixels)} bytes and not {n_bytes}")
    return np.frombuffer(pixels, DTYPES[dtype]).reshape(shape)


def _decompress_block(data: bytes | memoryview, n_bytes: int) -> bytes:
    try:
        import lz4.block
    except ImportError:
        raise ValueError("images compressed with LZ4 need the package lz4") from None
    try:
        return lz4.block.decompress(data, uncompressed_size=n_bytes)
    except lz4.block.LZ4BlockError as error:
        raise ValueError(f"the image can't be decompressed: {error}") from None


def _decompress_filtered(
    data: bytes | memoryview, compression: str, n_bytes: int, dtype: str
) -> bytes:
    try:
        from dectris import compression as dectris
    except ImportError:
        raise ValueError(
            "images that are compressed need the package dectris-compression"
        ) from None
    if len(data) < HEADER.size:
        raise ValueError(f"the image has {len(data)} bytes, too few")
    claimed, block = HEADER.unpack_from(data)
    if claimed != n_bytes or not 0 < block <= _MOST_BLOCK:
        raise ValueError(
            f"the image is said to have {claimed} bytes in blocks of {block}, and not "
            f"{n_bytes}"
        )
    try:
        return dectris.decompress(data, compression, elem_size=DTYPES[dtype].itemsize)
    except RuntimeError as error:
        raise ValueError(f"the image can't be decompressed: {error}") from None


def compress(pixels: NDArray, compression: str, block_bytes: int = _BLOCK) -> bytes:
    """Pixels as decompress takes them, for senders.

    Args:
        pixels: (slow, fast), of a type in DTYPES.
        compression: Of decompress.
        block_bytes: That are compressed together, by lz4 and bslz4.
    """
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).ravel()
    if compression == "none":
        return data.tobytes()
    import lz4.block

    if compression == "block":
        return lz4.block.compress(data.tobytes(), store_size=False)
    shuffled = compression == "bslz4"
    n_shuffled = len(data) // 8 * 8 if shuffled else len(data)
    step = block_bytes // data.itemsize  # pixels
    parts = [HEADER.pack(data.nbytes, step * data.itemsize)]
    for first in range(0, n_shuffled, step):
        block = data[first : min(first + step, n_shuffled)]
        raw = _shuffle_bits(block) if shuffled else block.tobytes()
        packed = lz4.block.compress(raw, store_size=False)
        if not shuffled and len(packed) >= len(raw):
            packed = raw
        parts += [struct.pack(">I", len(packed)), packed]
    # bitshuffle leaves the last pixels, fewer than eight, as they are.
    return b"".join([*parts, data[n_shuffled:].tobytes()])


def _shuffle_bits(data: NDArray) -> bytes:
    """All first bits of the pixels, then all second bits, as bitshuffle has them."""
    octets = data.reshape(-1, 1).view(np.uint8)  # (pixels, bytes of a pixel)
    bits = np.unpackbits(octets, axis=1, bitorder="little")  # (pixels, bits)
    return np.packbits(bits.T, bitorder="little").tobytes()
