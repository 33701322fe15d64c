"""Pictures of frames for the reports, at the contrast of dials.image_viewer."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.ke2018.preprocessing import crop, linear_contrast

# The middle of a frame, pixels: what the network of the paper sees (section 2.2).
EDGE = 1440
# Of each block of so many pixels along its edge the brightest is shown: pictures of
# 360 x 360 and thumbnails of 120 x 120. By hand, as the numbers below.
GALLERY_BLOCK, _THUMBNAIL_BLOCK = 4, 12
# Whole frames are shown pixel by pixel up to this many along an edge.
_LONGEST_EDGE = 4500
# Characters in base64 of a picture at full pixels, and the qualities of the JPEG that
# are tried. By hand: two dozen such pictures make at most 10 MB of a page.
_MOST, _QUALITIES = 400_000, (90, 65, 40, 20, 10)
# Pixels to each side of the middle of a close-up.
_REACH = 20


def thumbnail(frame: Frame) -> str:
    """The middle of a frame, 120 x 120; JPEG in base64."""
    return middle(frame, _THUMBNAIL_BLOCK, quality=70)


def middle(frame: Frame, block: int, quality: int) -> str:
    """The middle EDGE x EDGE pixels of a frame, about the beam centre.

    Of each block x block pixels the brightest is shown, so that no spot is lost.

    Args:
        frame: What lies outside of it is white.
        block: Pixels along the edge of a block; EDGE is a multiple.
        quality: Of the JPEG, 1 to 95.

    Returns:
        JPEG in base64.
    """
    data, mask = crop(frame.data, frame.mask, frame.beam_centre, EDGE)
    return _jpeg(linear_contrast(*_brightest(data, mask, block)), quality)


def full_middle(frame: Frame) -> str:
    """The middle EDGE x EDGE pixels of a frame, each of them, as well as _MOST allows.

    Args:
        frame: As in middle.

    Returns:
        JPEG in base64.
    """
    shade = linear_contrast(*crop(frame.data, frame.mask, frame.beam_centre, EDGE))
    jpeg = ""
    for quality in _QUALITIES:
        jpeg = _jpeg(shade, quality)
        if len(jpeg) <= _MOST:
            break
    return jpeg


def whole(frame: Frame, longest: int = _LONGEST_EDGE, quality: int = 80) -> str:
    """All of a frame, pixel by pixel unless it is too large; JPEG in base64.

    Where it is, the brightest of each block of pixels is shown.

    Args:
        frame: Any.
        longest: Pixels along the longer edge of the picture, at most.
        quality: Of the JPEG, 1 to 95.
    """
    block = -(-max(frame.data.shape) // longest)
    data, mask = frame.data, frame.mask
    if block > 1:
        ends = [(0, -n % block) for n in data.shape]
        data, mask = _brightest(np.pad(data, ends), np.pad(mask, ends), block)
    return _jpeg(linear_contrast(data, mask), quality)


def close_up(frame: Frame, slow: int, fast: int) -> str:
    """The 41 x 41 pixels around a pixel of a frame, the brightest black.

    Args:
        frame: What lies outside of it is white.
        slow: Index of the middle pixel.
        fast: Index of the middle pixel.

    Returns:
        JPEG in base64.
    """
    centre = (slow + 0.5, fast + 0.5)
    data, mask = crop(frame.data, frame.mask, centre, 2 * _REACH + 1)  # (41, 41) each
    used = data[mask] if mask.any() else np.zeros(1)
    dark, bright = np.percentile(used, 5), used.max()
    shade = (data - dark) / max(bright - dark, 1e-9)
    return _jpeg(np.where(mask, shade, 0), quality=90)


def _brightest(
    data: NDArray, mask: NDArray[np.bool_], block: int
) -> tuple[NDArray, NDArray[np.bool_]]:
    """The brightest used pixel of each block x block, and which blocks have one.

    Args:
        data: (slow, fast), ADU; both are multiples of block.
        mask: bool (slow, fast), True = use.
        block: Pixels along the edge of a block.

    Returns:
        (slow / block, fast / block) each.
    """
    rows, columns = (n // block for n in data.shape)
    blocks = np.where(mask, data, -np.inf).reshape(rows, block, columns, block)
    brightest = blocks.max(axis=(1, 3))  # (rows, columns)
    return brightest, np.isfinite(brightest)


def _jpeg(shade: NDArray, quality: int) -> str:
    """A picture (rows, columns), white at 0 or less and black at 1; JPEG in base64."""
    # Of Pillow, which matplotlib cannot be without.
    from PIL import Image

    jpeg = io.BytesIO()
    grey = (255.5 - 255 * np.clip(shade, 0, 1)).astype(np.uint8)
    Image.fromarray(grey).save(jpeg, "jpeg", quality=quality)
    return base64.b64encode(jpeg.getvalue()).decode()
