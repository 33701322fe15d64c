"""The message of this package, for any program that has images: JSON, then pixels.

docs/live.md describes it. The first part is JSON with type, series and, of an image,
number (from 1), shape, dtype and compression; the second its pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    take_count,
    take_name,
    take_pair,
)


def decode(first: dict[str, Any], parts: Sequence[Part]) -> Message:
    """The message of these parts.

    Args:
        first: The first part.
        parts: All, the first among them.

    Raises:
        BrokenMessageError: It is none.
    """
    series, kind = take_name(first.get("series")), first.get("type")
    if kind == "start":
        return Start(series, _read_header(first, parts))
    if kind == "end":
        return End(series)
    if kind != "image":
        raise BrokenMessageError(f"'{str(kind)[:40]}' is no type of message")
    number = take_count(first.get("number"), "the number")
    if not number:
        raise BrokenMessageError("an image has number 0; they count from 1")
    own = _read_header(first, ()) if "beam_centre" in first else None
    n_bytes = sum(map(len, parts))
    return Image(series, number, lambda: _read_pixels(first, parts), n_bytes, own)


def _read_header(first: dict[str, Any], parts: Sequence[Part]) -> Header:
    """What a message says of the images of its series."""
    n_images = first.get("n_images")
    mask = None
    if len(parts) > 1:
        with breaking("the mask"):
            shape = check_shape(first.get("mask_shape", []), "uint8")
            mask = decompress(parts[1], "none", shape, "uint8") != 0
    return Header(
        take_pair(first.get("beam_centre"), "beam_centre"),
        take_pair(first.get("trusted_range"), "trusted_range"),
        mask,
        None if n_images is None else take_count(n_images, "n_images"),
    )


def _read_pixels(first: dict[str, Any], parts: Sequence[Part]) -> NDArray:
    """The pixels of an image message; ValueError where they are not as it says."""
    if len(parts) < 2:
        raise BrokenMessageError("an image without pixels is not whole")
    dtype = str(first.get("dtype"))
    shape = check_shape(first.get("shape", []), dtype)
    compression = str(first.get("compression", "none"))
    return decompress(parts[1], compression, shape, dtype)


def encode_start(series: int, header: Header) -> list[bytes]:
    """The message that a series begins with, for senders."""
    content: dict[str, Any] = {
        "type": "start",
        "series": f"series_{series}",
        "beam_centre": header.beam_centre,
        "trusted_range": header.trusted_range,
        "n_images": header.n_images,
    }
    parts: list[bytes] = []
    if header.mask is not None:
        content["mask_shape"] = list(header.mask.shape)
        parts.append(header.mask.astype(np.uint8).tobytes())
    return [json.dumps(content).encode(), *parts]


def encode_image(
    series: int, number: int, pixels: NDArray, compression: str
) -> list[bytes]:
    """The message of an image, for senders; number: from 1."""
    content = {
        "type": "image",
        "series": f"series_{series}",
        "number": number,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "compression": compression,
    }
    return [json.dumps(content).encode(), compress(pixels, compression)]


def encode_end(series: int) -> list[bytes]:
    """The message that a series ends with, for senders."""
    return [json.dumps({"type": "end", "series": f"series_{series}"}).encode()]
