"""Messages of DECTRIS's SIMPLON Stream V1: parts of JSON, and pixels after them.

A series begins with ``dheader-1.0``, each image is ``dimage-1.0``, and the series ends
with ``dseries_end-1.0`` (SIMPLON API reference, chapter Stream). Fast comes before slow
in its shapes, and frames count from 0.
"""

from __future__ import annotations

import json
import re
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
    take_beam_centre,
    take_count,
    take_name,
    take_number,
)

# Of JSON in a message, bytes. By hand: a configuration with all it has takes 10 kB.
_LONGEST_JSON = 2**20
_ENCODING = re.compile(r"(bs(8|16|32)-?)?(lz4)?<")


def read_json(part: Part) -> dict[str, Any]:
    """A part of JSON as a dictionary; BrokenMessageError where it is none."""
    if len(part) > _LONGEST_JSON:
        raise BrokenMessageError(f"{len(part)} bytes of JSON are too many")
    try:
        content = json.loads(bytes(part))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BrokenMessageError("a part is no JSON")
    return content


def decode(first: dict[str, Any], parts: Sequence[Part]) -> Message:
    """The message of these parts.

    Args:
        first: The first part.
        parts: All, the first among them.

    Raises:
        BrokenMessageError: It is none.
    """
    series = f"series_{take_name(first.get('series'))}"
    kind = first.get("htype")
    if kind == "dheader-1.0":
        return Start(series, _read_header(parts))
    if kind == "dseries_end-1.0":
        return End(series)
    if kind != "dimage-1.0":
        raise BrokenMessageError(f"'{str(kind)[:40]}' is no message of Stream V1")
    number = take_count(first.get("frame"), "the frame") + 1
    n_bytes = sum(map(len, parts))
    return Image(series, number, lambda: _read_pixels(parts), n_bytes)


def _read_header(parts: Sequence[Part]) -> Header:
    """What a header says; with header_detail=none it is nothing."""
    if len(parts) < 2:
        return Header(has_markers=True)
    config = read_json(parts[1])
    centre = take_beam_centre(config)
    cutoff = config.get("countrate_correction_count_cutoff")
    trusted = None if not cutoff else (0.0, take_number(cutoff, "the count cutoff"))
    n = [config.get(name, 1) for name in ("nimages", "ntrigger")]
    n_images = take_count(n[0], "nimages") * take_count(n[1], "ntrigger")
    mask = _read_mask(parts[2:])
    return Header(centre, trusted, mask, n_images, has_markers=True)


def _read_mask(parts: Sequence[Part]) -> NDArray[np.bool_] | None:
    """The pixel mask among the parts of a header with all details."""
    for part, data in zip(parts[::2], parts[1::2], strict=False):
        head = read_json(part)
        if head.get("htype") == "dpixelmask-1.0":
            with breaking("the pixel mask"):
                shape = check_shape(_slow_first(head.get("shape")), "uint32")
                return decompress(data, "none", shape, "uint32") == 0
    return None


def _slow_first(shape: Any) -> list:
    return shape[::-1] if isinstance(shape, list) else []


def _read_pixels(parts: Sequence[Part]) -> NDArray:
    """The pixels of an image message; ValueError where they are not as it says."""
    if len(parts) < 3:
        raise BrokenMessageError(f"an image of {len(parts)} parts is not whole")
    head = read_json(parts[1])
    dtype, encoding = head.get("type"), head.get("encoding")
    shape = check_shape(_slow_first(head.get("shape")), str(dtype))
    match = _ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if match is None or (match[1] and not match[3]):
        raise ValueError(f"the encoding {str(encoding)[:40]!r} is not known")
    if match[1]:
        return decompress(parts[2], "bslz4", shape, str(dtype))
    return decompress(parts[2], "block" if match[3] else "none", shape, str(dtype))


def encode_start(series: int, header: Header) -> list[bytes]:
    """The message that a series begins with, for senders."""
    slow, fast = header.beam_centre or (0.0, 0.0)
    config = {
        "beam_center_x": fast,
        "beam_center_y": slow,
        "nimages": header.n_images or 1,
        "ntrigger": 1,
    }
    if header.trusted_range is not None:
        config["countrate_correction_count_cutoff"] = int(header.trusted_range[1])
    first = {"htype": "dheader-1.0", "series": series, "header_detail": "basic"}
    parts = [first, config]
    return [json.dumps(part).encode() for part in parts]


def encode_image(
    series: int, number: int, pixels: NDArray, compression: str
) -> list[bytes]:
    """The message of an image, for senders; number: from 1."""
    data = compress(pixels, "block" if compression == "lz4" else compression)
    bits = 8 * pixels.dtype.itemsize
    names = {"none": "<", "lz4": "lz4<", "bslz4": f"bs{bits}-lz4<"}
    first = {
        "htype": "dimage-1.0",
        "series": series,
        "frame": number - 1,
        "hash": "",
    }
    second = {
        "htype": "dimage_d-1.0",
        "shape": list(pixels.shape[::-1]),
        "type": str(pixels.dtype),
        "encoding": names[compression],
        "size": len(data),
    }
    times = {"htype": "dconfig-1.0", "start_time": 0, "stop_time": 0, "real_time": 0}
    first_parts = [json.dumps(part).encode() for part in (first, second)]
    return [*first_parts, data, json.dumps(times).encode()]


def encode_end(series: int) -> list[bytes]:
    """The message that a series ends with, for senders."""
    return [json.dumps({"htype": "dseries_end-1.0", "series": series}).encode()]
