"""Messages of the three kinds of stream, there and back, whole and broken."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dials_cnn_screen.live import plain, simplon, stream2
from dials_cnn_screen.live.send import FORMATS
from dials_cnn_screen.live.series import (
    BrokenMessageError,
    End,
    Header,
    Image,
    Start,
)

SHAPE = (31, 45)
PACKAGES = {"lz4": ("lz4", "dectris"), "bslz4": ("lz4", "dectris"), "block": ("lz4",)}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).poisson(3, SHAPE).astype(np.uint16)


def need(name, compression="none"):
    """Skip where a kind of stream, or a compression, needs what is not there."""
    for package in PACKAGES.get(compression, ()):
        pytest.importorskip(package)
    if name == "stream2":
        pytest.importorskip("cbor2")


def decode(parts):
    """As the stream does, whichever kind it is."""
    stream = pytest.importorskip("dials_cnn_screen.live.stream")
    return stream.decode(parts)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_a_series_there_and_back(pixels, name, compression):
    need(name, compression)
    header = Header((12.5, 20.25), (0.0, 1000.0), None, 7)
    module = FORMATS[name]
    start = decode(module.encode_start(4, header))
    assert isinstance(start, Start)
    assert start.series == "series_4"
    assert start.header.beam_centre == (12.5, 20.25)
    assert start.header.trusted_range == (0.0, 1000.0)
    assert start.header.n_images == 7
    assert start.header.has_markers == (name != "plain")
    parts = module.encode_image(4, 3, pixels, compression)
    image = decode([memoryview(part) for part in parts])
    assert isinstance(image, Image)
    assert (image.series, image.number) == ("series_4", 3)
    assert image.n_bytes == sum(map(len, parts))
    np.testing.assert_array_equal(image.read(), pixels)
    assert decode(module.encode_end(4)) == End("series_4")


@pytest.mark.parametrize("name", ["plain", "stream2"])
def test_the_mask_of_a_series(name):
    need(name)
    mask = np.random.default_rng(0).random(SHAPE) < 0.9
    start = decode(FORMATS[name].encode_start(4, Header(mask=mask)))
    np.testing.assert_array_equal(start.header.mask, mask)


def test_header_of_stream_v1_with_all_details():
    mask = np.zeros(SHAPE, np.uint32)
    mask[3, 7] = 8
    flatfield = np.ones(SHAPE, np.float32)

    def head(kind, dtype):
        return json.dumps(
            {"htype": kind, "shape": list(SHAPE[::-1]), "type": dtype}
        ).encode()

    parts = simplon.encode_start(1, Header((1.0, 2.0), None, None, 5))
    parts += [head("dflatfield-1.0", "float32"), flatfield.tobytes()]
    parts += [head("dpixelmask-1.0", "uint32"), mask.tobytes()]
    parts += [head("dcountrate_table-1.0", "float32"), b"1234"]
    header = decode(parts).header
    np.testing.assert_array_equal(header.mask, mask == 0)
    assert header.trusted_range is None
    parts[5] = parts[5][:-4]
    with pytest.raises(BrokenMessageError, match="the pixel mask: the image has"):
        decode(parts)


def test_header_of_stream_v1_without_details():
    header = decode([b'{"htype": "dheader-1.0", "series": 3}']).header
    assert header.beam_centre is header.mask is header.n_images is None


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_truncation_is_noticed(pixels, name):
    need(name)
    parts = FORMATS[name].encode_image(4, 3, pixels, "none")
    whole = b"".join(parts)
    for length in range(0, len(whole), 97):
        cut, left = [], length
        for part in parts:
            cut.append(part[:left])
            left = max(left - len(part), 0)
        if name == "simplon" and length >= sum(map(len, parts[:3])):
            continue  # the times are not looked at
        cut = [part for part in cut if part] or [b""]
        with pytest.raises(ValueError, match=r"\w"):
            decode(cut).read()


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"hello"],
        [b"[1, 2]"],
        [b'{"a": '],
        [b"[" * 100_000],
        [b'{"a":' * 100_000],
        [b"{}"],
        [b'{"htype": "dimage-1.0"}'],
        [b'{"htype": "dimage-1.0", "series": 1, "frame": -1}'],
        [b'{"htype": "dimage-1.0", "series": 1, "frame": 1e9}'],
        [b'{"htype": "dimage-1.0", "series": 1, "frame": 99999999999}'],
        [b'{"htype": "dimage-9.0", "series": 1}'],
        [b'{"htype": "dheader-1.0", "series": 1}', b"no"],
        [b'{"htype": "dheader-1.0", "series": 1}', b'{"nimages": "many"}'],
        [
            b'{"htype": "dheader-1.0", "series": 1}',
            b'{"beam_center_x": NaN, "beam_center_y": 1}',
        ],
        [b'{"type": "image", "series": "a", "number": 0}'],
        [b'{"type": "image", "series": "a\\nb", "number": 1}'],
        [b'{"type": "image", "series": "", "number": 1}'],
        [b'{"type": "image", "series": ["a"], "number": 1}'],
        [b'{"type": "start", "series": "a", "beam_centre": [1]}'],
        [b'{"type": "start", "series": "a", "trusted_range": ["a", 1]}'],
        [b'{"type": "start", "series": "a", "mask_shape": [3, 3]}', b"1234"],
        [b'{"type": "start", "series": "' + b"a" * 1000 + b'"}'],
        [b'{"a": "' + b"a" * 2**21 + b'"}'],
        [b"\x80\x04\x95"],  # a pickle
    ],
)
def test_messages_that_are_none(parts):
    with pytest.raises(BrokenMessageError):
        decode(parts)


@pytest.mark.parametrize(
    "message",
    [
        b"\xa1",
        b"\xa0",
        b"\xbf",
        b"\xa1\x61a\x9b\x00\x00\xff\xff\xff\xff\xff\xff",  # an array of 2^48 items
        b"\xa1\x61a\x5b\x00\x00\xff\xff\xff\xff\xff\xff",  # as many bytes
        b"\xbb\x00\x00\xff\xff\xff\xff\xff\xff",  # a map of as many
        b"\xa1\x61a" + b"\x81" * 100_000,
    ],
)
def test_cbor_that_lies_about_its_size(message):
    need("stream2")
    with pytest.raises(BrokenMessageError):
        decode([message])


def test_cbor_whose_arrays_are_none():
    need("stream2")
    import cbor2
    from cbor2 import CBORTag

    good = CBORTag(69, bytes(8))
    for data in (
        None,
        {},
        {"a": 5},
        {"a": CBORTag(40, [[2, 2]])},
        {"a": CBORTag(41, [[2, 2], good])},
        {"a": CBORTag(40, [[2, 3], good])},
        {"a": CBORTag(40, [[2**40, 2**40], good])},
        {"a": CBORTag(40, [[2, 2], CBORTag(99, bytes(8))])},
        {"a": CBORTag(40, [[2, 2], CBORTag(69, [1, 2, 3, 4])])},
        {"a": CBORTag(40, [[2, 2], CBORTag(69, CBORTag(56500, ["zip", 2, b""]))])},
        {"a": CBORTag(40, [[2, 2], CBORTag(69, CBORTag(56500, ["bslz4", 4, b""]))])},
    ):
        content = {"type": "image", "series_id": 1, "image_id": 0, "data": data}
        image = decode([cbor2.dumps(content)])
        with pytest.raises(ValueError, match=r"\w"):
            image.read()
    content["data"] = {"a": CBORTag(40, [[2, 2], good]), "b": 5}
    assert decode([cbor2.dumps(content)]).read().tolist() == [[0, 0], [0, 0]]


def test_an_image_of_several_panels():
    pixels = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    image = decode(plain.encode_image(1, 1, pixels, "none"))
    np.testing.assert_array_equal(image.read(), pixels)


def test_an_image_with_a_beam_centre_of_its_own(pixels):
    first, data = plain.encode_image(1, 1, pixels, "none")
    content = json.loads(first) | {"beam_centre": [5, 6.5]}
    image = decode([json.dumps(content).encode(), data])
    assert image.header.beam_centre == (5.0, 6.5)


def test_kinds_are_told_apart():
    assert not stream2.is_map(b'{"type": "end"}')
    assert stream2.is_map(b"\xa1")
    assert not stream2.is_map(b"")
    # The tag that says that this is CBOR.
    assert stream2.is_map(b"\xd9\xd9\xf7\xa1")
    assert not stream2.is_map(b"\xd9\xd9\xf7")
