from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("lz4")
pytest.importorskip("dectris")

from dials_cnn_screen.images.compression import compress
from dials_cnn_screen.images.frame import fill_trusted
from dials_cnn_screen.images.raw_frame import Encoding, RawFrame, block_bytes

SHAPE, BLOCK = (31, 45), 1024
CENTRE = (15.0, 20.5)


def make_image(dtype):
    image = np.random.default_rng(1).poisson(5, SHAPE).astype(dtype)
    image[3, 3:7] = 201, 200, 0, np.iinfo(dtype).max
    image[4:7, 30:33] = 250
    return image


def encode(dtype, top=None):
    mask = np.random.default_rng(2).random(SHAPE) < 0.9
    mask[4:7, 30:33] = True
    return Encoding(np.dtype(dtype), BLOCK, mask, 0, 200, top)


def blocks_of(encoding, data):
    places = np.full((encoding.n_blocks + 1, 2), -1, np.int32)
    return RawFrame(data, encoding, CENTRE).find_blocks(places), places


@pytest.mark.parametrize("block", [0, BLOCK])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4"])
def test_the_frame_is_that_of_the_pixels(dtype, block):
    image = make_image(dtype)
    encoding = replace(encode(dtype), block_bytes=block)
    frame = RawFrame(
        compress(image, encoding.compression, block), encoding, CENTRE
    ).frame()
    raw = image.view("i4") if dtype == "u4" else image
    low, high = raw.dtype.type(0), raw.dtype.type(200)
    data, mask, used = fill_trusted(raw, encoding.static_mask, low, high)
    np.testing.assert_array_equal(frame.data, data)
    np.testing.assert_array_equal(frame.mask, mask)
    assert (frame.beam_centre, frame.used_range) == (CENTRE, used)
    # Overloaded pixels that are signal are used.
    assert frame.mask[5, 31]
    assert frame.data[5, 31] > 200


def test_numbers_that_stand_for_no_value():
    image = make_image("u2")
    image[10, :3] = 65535, 65534, 65533
    encoding = replace(
        encode("u2", 65536), high=65533, static_mask=np.ones(SHAPE, bool)
    )
    frame = RawFrame(compress(image, "bslz4"), encoding, CENTRE).frame()
    assert frame.mask[10, :3].tolist() == [False, False, True]


def test_damaged_chunk():
    chunk = compress(make_image("u2"), "bslz4", BLOCK)
    with pytest.raises(ValueError, match="the image can't be decompressed"):
        RawFrame(chunk[:-300], encode("u2"), CENTRE).frame()


def test_blocks():
    image, encoding = make_image("u2"), encode("u2")
    chunk = compress(image, "bslz4", BLOCK)
    found, places = blocks_of(encoding, chunk)
    assert found
    # Each starts after its size, and the last pixels, fewer than eight, end the chunk.
    assert encoding.n_blocks == 3
    assert places[0, 0] == 16
    for (start, size), (after, _) in itertools.pairwise(places[:-1]):
        assert after == start + size + 4
    assert places[-1].tolist() == [len(chunk) - 2 * (31 * 45 % 8), 2 * (31 * 45 % 8)]


def test_chunks_that_are_something_else():
    image, encoding = make_image("u2"), encode("u2")
    chunk = compress(image, "bslz4", BLOCK)
    for damaged in (b"", chunk[:11], chunk[:40], chunk[:-1], chunk + b"0"):
        assert not blocks_of(encoding, damaged)[0]
    # Of another size of image or block, and a block that is said to be too long.
    assert not blocks_of(encoding, compress(image[:-1], "bslz4", BLOCK))[0]
    assert not blocks_of(encoding, compress(image, "bslz4", 2 * BLOCK))[0]
    assert not blocks_of(encoding, chunk[:12] + b"\xff" * 4 + chunk[16:])[0]


def test_an_image_that_is_not_compressed_is_one_place():
    image, encoding = make_image("u2"), replace(encode("u2"), block_bytes=0)
    assert encoding.n_blocks == 0
    found, places = blocks_of(encoding, image.tobytes())
    assert found
    assert places.tolist() == [[0, 2 * 31 * 45]]
    assert not blocks_of(encoding, image.tobytes()[:-1])[0]


def test_images_that_kernels_take():
    chunk, dtype, n = (
        compress(make_image("u2"), "bslz4", BLOCK),
        np.dtype("u2"),
        31 * 45,
    )
    assert block_bytes(chunk, "bslz4", dtype, n) == BLOCK
    assert block_bytes(chunk, "bslz4", dtype, n + 1) is None
    assert block_bytes(chunk[:10], "bslz4", dtype, n) is None
    # Blocks are whole groups of eight pixels.
    odd = chunk[:8] + (1020).to_bytes(4, "big") + chunk[12:]
    assert block_bytes(odd, "bslz4", dtype, n) is None
    assert block_bytes(b"", "none", dtype, n) == 0
    for other in ("f4", "u8"):
        assert block_bytes(b"", "none", np.dtype(other), n) is None
    # More than places in a batch can count.
    assert block_bytes(b"", "none", np.dtype("u4"), 2**25) is None


def test_encodings_that_are_the_same():
    encoding = encode("u2", 65536)
    assert encoding.equals(replace(encoding, static_mask=encoding.static_mask.copy()))
    for other in (
        {"dtype": np.dtype("i2")},
        {"block_bytes": 2048},
        {"static_mask": ~encoding.static_mask},
        {"low": -1},
        {"high": 201},
        {"top": None},
    ):
        assert not encoding.equals(replace(encoding, **other))
