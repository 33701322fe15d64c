"""One image as all models take it: one array, its mask and the beam centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# 8192 x 8192: four times the largest detectors in use (16 megapixels). By hand.
MAX_IMAGE_PIXELS = 2**26
# Times a detector's longer edge; metres for a detector of a hundred millimetres and
# more. By hand.
FARTHEST = 10.0


@dataclass(frozen=True, eq=False)
class Frame:
    """The assembled array of one image.

    Attributes:
        data: (slow, fast), ADU; float32 as read_frame reads images. 0 in gaps and where
            the image was not finite.
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast) in pixels from the outer corner of the first pixel, as
            in dxtbx: the centre of pixel (i, j) is at (i + 0.5, j + 0.5). It may lie
            outside the array.
        used_range: Least and greatest of the used pixels, as images/frame_cpu.py has
            them; None where nothing has found them yet.
    """

    data: NDArray
    mask: NDArray[np.bool_]
    beam_centre: tuple[float, float]
    used_range: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(slow, fast)."""
        return self.data.shape


def make_frame(
    data: ArrayLike,
    mask: ArrayLike | None = None,
    beam_centre: tuple[float, float] | None = None,
) -> Frame:
    """A frame from plain arrays; pixels that are not finite are masked.

    Args:
        data: (slow, fast) numbers, ADU or photons.
        mask: bool (slow, fast), True = use; None uses every pixel.
        beam_centre: (slow, fast), pixels, as in Frame; None is the middle.

    Returns:
        A frame of float32 where the data are floating-point numbers, else of the data
        as they are.

    Raises:
        ValueError: The array is not one of numbers in two dimensions, the mask is of
            another shape, or the beam centre is not two finite numbers.
    """
    data = np.asarray(data)
    if data.ndim != 2 or data.dtype.kind not in "iuf" or not data.size:
        raise ValueError(
            f"data of shape {data.shape} and type {data.dtype}: give one image, an "
            "array of numbers (slow, fast)"
        )
    used = np.ones(data.shape, bool) if mask is None else np.asarray(mask, bool)
    if used.shape != data.shape:
        raise ValueError(
            f"the mask is {used.shape} pixels and the image {data.shape}; give a mask "
            "of the image's shape, True where a pixel is used"
        )
    if beam_centre is None:
        beam_centre = (data.shape[0] / 2, data.shape[1] / 2)
    if np.shape(beam_centre) != (2,) or not np.isfinite(beam_centre).all():
        raise ValueError(
            f"the beam centre {beam_centre} is not two finite numbers, (slow, fast) in "
            "pixels"
        )
    if data.dtype.kind == "f":
        data, used = drop_non_finite(data, used)
    slow, fast = beam_centre
    return Frame(data, used, (float(slow), float(fast)))


def fill_trusted(
    raw: NDArray,
    static_mask: NDArray[np.bool_],
    low: np.generic,
    high: np.generic,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float]]:
    """Pixels, mask and used range of raw pixels, by fill_frame of frame_cpu.py.

    Args:
        raw: (slow, fast) numbers, ADU.
        static_mask: bool (slow, fast), True = use.
        low, high: The least and the greatest trusted value, ADU.
    """
    # Not above: numba takes half a second.
    from dials_cnn_screen.images.frame_cpu import fill_frame

    data = np.empty(raw.shape, np.float32)
    mask = np.empty(raw.shape, np.bool_)
    used = fill_frame(read_only(raw), static_mask, low, high, data, mask)
    return data, mask, used


def as_dxtbx_has(
    raw: NDArray, top: int | None, marked: NDArray[np.int32] | None = None
) -> NDArray:
    """Numbers of a file as dxtbx has them: signed, and those without a value marked.

    Args:
        raw: (slow, fast) numbers.
        top: One above the greatest value that the detector reads out, where the
            greatest two stand for pixels without one; they become -1 and -2.
        marked: (slow, fast), where these numbers are written; None: a new array.
    """
    from dials_cnn_screen.images.frame_cpu import mark_pixels

    raw = raw.view(np.int32) if raw.dtype == np.uint32 else raw
    if top is None:
        return raw
    marked = np.empty(raw.shape, np.int32) if marked is None else marked
    mark_pixels(read_only(raw), top, marked)
    return marked


def read_only(array: NDArray) -> NDArray:
    """The same array, not to be written to.

    Kernels are compiled anew for arrays that may be and for those that may not.
    """
    view = array.view()
    view.setflags(write=False)
    return view


def drop_non_finite(
    pixels: NDArray, mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pixels as float32, and their mask: 0 and False where a pixel is not finite.

    Args:
        pixels: (slow, fast) numbers. One too large for float32 is not finite either.
        mask: bool (slow, fast), True = use.

    Returns:
        float32 and bool (slow, fast). The pixels are a copy; the mask is the one given
        if the pixels are integers.
    """
    with np.errstate(over="ignore"):
        data = pixels.astype(np.float32)
    if pixels.dtype.kind != "f":
        return data, mask
    finite = np.isfinite(data)
    data[~finite] = 0
    return data, mask & finite


def beam_misses_by(shape: tuple[int, ...], beam_centre: tuple[float, float]) -> float:
    """How far the beam centre is off a frame, in units of the frame's longer edge.

    Args:
        shape: (slow, fast), pixels.
        beam_centre: (slow, fast), pixels.

    Returns:
        0 on the frame.
    """
    size = np.array(shape)
    away = np.maximum(-np.array(beam_centre), np.array(beam_centre) - size)
    return float(np.maximum(away, 0).max() / size.max())


def check_frame(frame: Frame) -> None:
    """Refuse a frame with nothing on it to classify it by.

    Raises:
        ValueError: No pixel is used, all used pixels have the same value, or the beam
            misses the frame by more than FARTHEST.
    """
    misses_by = beam_misses_by(frame.data.shape, frame.beam_centre)
    if not misses_by <= FARTHEST:
        raise ValueError(
            f"the beam misses the detector by {misses_by:.3g} times its size; check "
            "the beam centre"
        )
    # Not above: numba takes half a second.
    from dials_cnn_screen.images.frame_cpu import used_range

    least, most = frame.used_range or used_range(frame.data, frame.mask)
    if least > most:
        raise ValueError("every pixel is masked or outside the trusted range")
    if least == most:
        raise ValueError(f"every usable pixel has the same value, {least:g}")
