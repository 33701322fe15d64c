"""Frames in batches: what those of one batch have in common, and how they are stored.

A batch is one array (b, slow, fast) of raw pixels, padded to whole blocks of 16 x 16.
All its frames have one mask. A pixel that is not used on one frame alone has a value
there that is outside of the trusted range. Images may come as their file has them; they
become frames of int32 on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.raw_frame import Encoding, RawFrame

# Frames are padded to a multiple of this, pixels.
PADDED_TO = 16
# What stands in the place of a pixel that is not used on one frame alone. All integers
# may be counts in uint16: no value is free.
UNUSED_INTEGER = np.int32(-(2**31))
_UNUSED = {"i": UNUSED_INTEGER, "f": np.float32(np.nan)}


@dataclass(frozen=True, eq=False)
class Layout:
    """What the frames of a batch have in common.

    Attributes:
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast), pixels, as in Frame.
        dtype: Of the pixels in the batch: uint16, int32 or float32.
        trusted: Least and greatest value of pixels that are used, ADU; None: any.
        encoding: Of images that become frames on the device; None: frames come as they
            are.
    """

    mask: NDArray[np.bool_]
    beam_centre: tuple[float, float]
    dtype: np.dtype
    trusted: tuple[float, float] | None = None
    encoding: Encoding | None = None

    @property
    def padded(self) -> tuple[int, int]:
        """Shape (slow, fast) of a frame in a batch."""
        slow, fast = (-(-n // PADDED_TO) * PADDED_TO for n in self.mask.shape)
        return slow, fast

    @property
    def padded_mask(self) -> NDArray[np.bool_]:
        """The mask of a frame in a batch."""
        mask = np.zeros(self.padded, bool)
        mask[tuple(slice(n) for n in self.mask.shape)] = self.mask
        return mask

    @property
    def unused(self) -> np.generic | None:
        """What a pixel has that is not used on one frame alone; None: no value is free.

        It is outside of the trusted range.
        """
        return None if self.trusted is None else _UNUSED.get(self.dtype.kind)

    def holds(self, frame: Frame | RawFrame) -> bool:
        """Whether a frame can be one of the batch."""
        if isinstance(frame, RawFrame):
            return (
                self.encoding is not None
                and frame.encoding.equals(self.encoding)
                and frame.beam_centre == self.beam_centre
            )
        return self.encoding is None and (
            frame.data.shape == self.mask.shape
            and batch_dtype(frame.data.dtype) == self.dtype
            and frame.beam_centre == self.beam_centre
            and (
                frame.mask is self.mask
                or np.array_equal(frame.mask, self.mask)
                or (self.unused is not None and not (frame.mask & ~self.mask).any())
            )
        )

    def store(self, frame: Frame, place: NDArray) -> None:
        """Write the pixels of a frame that it holds to a place (slow, fast), padded."""
        slow, fast = frame.data.shape
        np.copyto(place[:slow, :fast], frame.data, casting="unsafe")
        if frame.mask is not self.mask and self.unused is not None:
            place[:slow, :fast][self.mask & ~frame.mask] = self.unused

    def restore(self, place: NDArray) -> Frame:
        """The frame that was stored at a place; 0 where a pixel is not used."""
        data = place[tuple(slice(n) for n in self.mask.shape)]
        used = self.mask
        if self.trusted is not None:
            # Not true of NaN.
            used = used & (data >= self.trusted[0])
        return Frame(np.where(used, data, 0), used, self.beam_centre)


def batch_dtype(dtype: np.dtype) -> np.dtype:
    """The type of pixels in a batch: one that holds all values, or float32."""
    if dtype in (np.uint8, np.uint16):
        return np.dtype(np.uint16)
    if dtype in (np.int8, np.int16, np.int32):
        return np.dtype(np.int32)
    return np.dtype(np.float32)


def common_layout(frames: Sequence[Frame]) -> Layout:
    """The layout of frames like the first; a pixel is used if it is on any of them."""
    first = frames[0]
    dtype = batch_dtype(first.data.dtype)
    mask = first.mask
    for frame in frames[1:]:
        if frame.mask is not first.mask and frame.mask.shape == mask.shape:
            mask = mask | frame.mask
    return Layout(mask, first.beam_centre, dtype, _trusted(dtype))


def raw_layout(frames: Sequence[RawFrame]) -> Layout:
    """The layout of raw frames like the first, as of common_layout.

    Raises:
        ValueError: All of them are damaged.
    """
    encoding, alike = frames[0].encoding, []
    for frame in frames:
        if frame.encoding.equals(encoding):
            with contextlib.suppress(ValueError):
                alike.append(frame.frame())
    if not alike:
        raise ValueError("no image of the batch is whole")
    dtype = np.dtype(np.int32)
    trusted = _trusted(dtype)
    return replace(
        common_layout(alike), dtype=dtype, trusted=trusted, encoding=encoding
    )


def _trusted(dtype: np.dtype) -> tuple[float, float] | None:
    """All numbers but the least of int32 and those that are not finite, as float32.

    Pixels that are used on some frames of a batch alone need one. uint16 has none.
    """
    if dtype.kind == "u":
        return None
    largest = float(np.finfo(np.float32).max)
    # 256 above the least int32, not to be rounded to it.
    return (256 - 2.0**31, 2.0**31) if dtype.kind == "i" else (-largest, largest)
