"""Messages of DECTRIS's SIMPLON Stream V2: one map of CBOR each.

https://github.com/dectris/documentation/tree/main/stream_v2. Arrays are of tag 40 (RFC
8746: shape, and typed numbers), and compressed bytes of tag 56500 (algorithm, bytes of
an element, data). Images count from 0. Of several channels (thresholds) the first is
taken.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.compression import check_shape, compress, decompress
from dials_cnn_screen.live.series import (
    BrokenMessageError,
    End,
    Header,
    Image,
    Message,
    Part,
    Start,
    breaking,
    take_beam_centre,
    take_count,
    take_name,
    take_number,
)

_ARRAY, _COMPRESSED = 40, 56500
_SELF_DESCRIBED = b"\xd9\xd9\xf7"  # tag 55799, RFC 8949, section 3.4.6
# Typed arrays of RFC 8746, little-endian.
_TYPES = {64: "uint8", 69: "uint16", 70: "uint32", 77: "int16", 78: "int32"}
_TYPES |= {85: "float32", 86: "float64"}
_TAGS = {name: tag for tag, name in _TYPES.items()}


def is_map(message: Part) -> bool:
    """Whether a message begins as a map of CBOR does (major type 5).

    The tag by which CBOR may say what it is stands before the map, as detectors have
    it.
    """
    first = _without_tag(message)
    return len(first) > 0 and first[0] >> 5 == 5


def _without_tag(message: Part) -> Part:
    return message[3:] if message[:3] == _SELF_DESCRIBED else message


def decode(message: Part) -> Message:
    """The message of these bytes.

    Raises:
        BrokenMessageError: It is none.
        ValueError: cbor2 is not installed.
    """
    content = _load(message)
    kind = content.get("type")
    series = f"series_{take_name(content.get('series_id'))}"
    if kind == "start":
        return Start(series, _read_header(content))
    if kind == "end":
        return End(series)
    if kind != "image":
        raise BrokenMessageError(f"'{str(kind)[:40]}' is no message of Stream V2")
    number = take_count(content.get("image_id"), "image_id") + 1
    data = content.get("data")
    return Image(series, number, lambda: _read_first_channel(data), len(message))


def _load(message: Part) -> dict[str, Any]:
    """A map of CBOR as a dictionary; tags stay as they are."""
    try:
        import cbor2
    except ImportError:
        raise ValueError("messages of Stream V2 need the package cbor2") from None
    try:
        # A stream and not loads: the older version takes no memoryview.
        content = cbor2.load(io.BytesIO(_without_tag(message)))
    except Exception as error:  # whatever is in it, it is not whole
        what = type(error).__name__
        raise BrokenMessageError(f"a message is no CBOR ({what})") from None
    if not isinstance(content, dict):
        raise BrokenMessageError("a message is no map of CBOR")
    return content


def _read_header(content: dict[str, Any]) -> Header:
    """What a start message says."""
    centre = take_beam_centre(content)
    trusted = mask = n_images = None
    if content.get("saturation_value"):
        trusted = 0.0, take_number(content["saturation_value"], "saturation_value")
    if content.get("number_of_images") is not None:
        n_images = take_count(content["number_of_images"], "number_of_images")
    if content.get("pixel_mask"):
        with breaking("the pixel mask"):
            mask = _read_first_channel(content["pixel_mask"]) == 0
    return Header(centre, trusted, mask, n_images, has_markers=True)


def _read_first_channel(channels: Any) -> NDArray:
    """The array of the first channel; ValueError where it is none."""
    if not isinstance(channels, dict) or not channels:
        raise ValueError("there is no channel")
    array = next(iter(channels.values()))
    shape, numbers = _untag(array, (_ARRAY,), 2)
    name = _TYPES.get(getattr(numbers, "tag", -1), "")
    shape = check_shape(list(shape) if isinstance(shape, list | tuple) else [], name)
    data, compression = numbers.value, "none"
    if not isinstance(data, bytes):
        compression, element, data = _untag(data, (_COMPRESSED,), 3)
        if element not in (0, np.dtype(name).itemsize) or compression == "block":
            raise ValueError(f"the compression {str(compression)[:40]!r} is not known")
    if not isinstance(data, bytes):
        raise ValueError("there are no bytes")
    return decompress(data, str(compression), shape, name)


def _untag(item: Any, tags: tuple[int, ...], n: int) -> list[Any]:
    """The n items of an array with one of these tags."""
    value = getattr(item, "value", None)
    if getattr(item, "tag", None) not in tags or not isinstance(value, list | tuple):
        raise ValueError(f"there is no array of tag {tags[0]}")
    if len(value) != n:
        raise ValueError(f"an array of tag {tags[0]} has {len(value)} items")
    return list(value)


def encode_start(series: int, header: Header) -> list[bytes]:
    """The message that a series begins with, for senders."""
    slow, fast = header.beam_centre or (0.0, 0.0)
    content: dict[str, Any] = {
        "type": "start",
        "beam_center_x": fast,
        "beam_center_y": slow,
        "channels": ["threshold_1"],
        "number_of_images": header.n_images or 1,
        "series_id": series,
    }
    if header.trusted_range is not None:
        content["saturation_value"] = int(header.trusted_range[1])
    if header.mask is not None:
        mask = _encode_array((~header.mask).astype(np.uint32), "none")
        content["pixel_mask"] = {"threshold_1": mask}
    return _dump(content)


def encode_image(
    series: int, number: int, pixels: NDArray, compression: str
) -> list[bytes]:
    """The message of an image, for senders; number: from 1."""
    array = _encode_array(pixels, compression)
    content = {
        "type": "image",
        "series_id": series,
        "image_id": number - 1,
        "data": {"threshold_1": array},
    }
    return _dump(content)


def encode_end(series: int) -> list[bytes]:
    """The message that a series ends with, for senders."""
    return _dump({"type": "end", "series_id": series})


def _encode_array(pixels: NDArray, compression: str) -> Any:
    from cbor2 import CBORTag

    data: Any = compress(pixels, compression)
    if compression != "none":
        packed = [compression, pixels.dtype.itemsize, data]
        data = CBORTag(_COMPRESSED, packed)
    numbers = CBORTag(_TAGS[str(pixels.dtype)], data)
    return CBORTag(_ARRAY, [list(pixels.shape), numbers])


def _dump(content: dict[str, Any]) -> list[bytes]:
    import cbor2

    return [_SELF_DESCRIBED + cbor2.dumps(content)]
