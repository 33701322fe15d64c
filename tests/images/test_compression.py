from __future__ import annotations

import struct

import numpy as np
import pytest

from dials_cnn_screen.images.compression import check_shape, compress, decompress
from dials_cnn_screen.images.frame import MAX_IMAGE_PIXELS

SHAPE = (31, 45)
PACKAGES = {"lz4": ("lz4", "dectris"), "bslz4": ("lz4", "dectris"), "block": ("lz4",)}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).poisson(3, SHAPE).astype(np.uint16)


def need(compression):
    """Skip where a compression needs what is not there."""
    for package in PACKAGES.get(compression, ()):
        pytest.importorskip(package)


@pytest.mark.parametrize("compression", ["none", "block", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "float32"])
def test_compression_there_and_back(pixels, compression, dtype):
    need(compression)
    pixels = pixels.astype(dtype)
    data = compress(pixels, compression)
    again = decompress(data, compression, SHAPE, dtype)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, pixels)
    # As it comes from a socket.
    again = decompress(memoryview(bytearray(data)), compression, SHAPE, dtype)
    np.testing.assert_array_equal(again, pixels)


def test_large_images_are_compressed_in_blocks():
    need("bslz4")
    pixels = np.random.default_rng(0).poisson(3, (700, 501)).astype(np.uint32)
    data = compress(pixels, "bslz4")
    assert len(data) < pixels.nbytes / 2
    np.testing.assert_array_equal(
        decompress(data, "bslz4", (700, 501), "uint32"), pixels
    )


@pytest.mark.parametrize("compression", ["none", "block", "lz4", "bslz4"])
def test_truncated_data(pixels, compression):
    need(compression)
    data = compress(pixels, compression)
    for length in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match="the image"):
            decompress(data[:length], compression, SHAPE, "uint16")


@pytest.mark.parametrize("compression", ["lz4", "bslz4"])
@pytest.mark.parametrize(
    "head", [(2**60, 8192), (31 * 45 * 2, 2**31 - 1), (31 * 45 * 2, 0), (2, 8192)]
)
def test_data_that_lie_about_their_size(pixels, compression, head):
    need(compression)
    data = struct.pack(">QI", *head) + compress(pixels, compression)[12:]
    with pytest.raises(ValueError, match="is said to have"):
        decompress(data, compression, SHAPE, "uint16")


@pytest.mark.parametrize(
    "shape",
    [
        None,
        "ab",
        [],
        [5],
        [0, 5],
        [-1, 5],
        [2.0, 3.0],
        [True, 5],
        [1, 2, 3, 4],
        [2**40, 2**40],
        [MAX_IMAGE_PIXELS, 2],
    ],
)
def test_shapes_that_are_none(shape):
    with pytest.raises(ValueError, match="is none of an image"):
        check_shape(shape, "uint16")


@pytest.mark.parametrize("dtype", ["object", "complex64", "S5", "", "uint64"])
def test_types_that_are_none(dtype):
    with pytest.raises(ValueError, match="not known"):
        check_shape([5, 5], dtype)
