"""What dxtbx masks, with that which all images share made once.

dxtbx makes a mask anew for each image: the mask of the format and the user and the
untrusted rectangles, the same each time, and then the trusted range of the raw values.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from dxtbx import flumpy
from dxtbx.imageset import ImageSet
from dxtbx.model import Detector, Panel
from numpy.typing import DTypeLike, NDArray
from scitbx.array_family import flex


class StaticMask:
    """The static mask of the last image, for the next one if it has the same."""

    def __init__(self) -> None:
        """No mask is made yet."""
        self._key: tuple | None = None
        self._lookup: list[NDArray[np.bool_]] = []
        self._mask: list[NDArray[np.bool_]] = []

    def read(self, imageset: ImageSet) -> list[NDArray[np.bool_]]:
        """The static mask of an imageset's images.

        Returns:
            bool (slow, fast) for each panel, True = use; not to be written to.

        Raises:
            ValueError: The mask of the format or the user is not of the panels' shapes.
        """
        # dxtbx takes the rectangles of the first image too.
        detector = imageset.get_detector(0)
        lookup = [flumpy.to_numpy(m.data()) for m in imageset.external_lookup.mask.data]
        # A mask at the same place in memory is the same one: it is held on to here.
        key = (
            tuple(m.ctypes.data for m in lookup),
            tuple(_rectangles(panel) for panel in detector),
        )
        if key != self._key:
            mask = _combine(detector, lookup)
            self._key, self._lookup, self._mask = key, lookup, mask
        return self._mask


def _rectangles(panel: Panel) -> tuple:
    return panel.get_image_size(), tuple(panel.get_mask())


def _combine(
    detector: Detector, lookup: list[NDArray[np.bool_]]
) -> list[NDArray[np.bool_]]:
    """The untrusted rectangles of panels and the mask of the format and the user."""
    masks = [flumpy.to_numpy(p.get_untrusted_rectangle_mask()) for p in detector]
    if not lookup:
        return masks
    if [m.shape for m in lookup] != [m.shape for m in masks]:
        raise ValueError("the mask is not of the shape of the detector's panels")
    return [mask & more for mask, more in zip(masks, lookup, strict=True)]


def trusted_values(panel: Panel, dtype: DTypeLike) -> tuple[np.generic, np.generic]:
    """The least and the greatest trusted value that numbers of a type can have.

    Args:
        panel: With a trusted range, ADU; this dxtbx says whether its ends are in it.
        dtype: Of integers or floating-point numbers.

    Returns:
        Two of that type; the first is the greater one where nothing is trusted.
    """
    low, high = panel.get_trusted_range()
    includes_low, includes_high = _ends_are_trusted()
    low = low if includes_low else math.nextafter(low, math.inf)
    high = high if includes_high else math.nextafter(high, -math.inf)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return _round_up(low, dtype), -_round_up(-high, dtype)
    limits = np.iinfo(dtype)
    if not (low <= high and low <= limits.max and high >= limits.min):
        return dtype.type(1), dtype.type(0)
    # Infinity has no ceiling.
    first = math.ceil(low) if low > limits.min else limits.min
    last = math.floor(high) if high < limits.max else limits.max
    return dtype.type(first), dtype.type(last)


def _round_up(value: float, dtype: np.dtype) -> np.floating:
    """The least number of a floating-point type that is not below a value."""
    with np.errstate(over="ignore"):
        rounded = dtype.type(value)
    if float(rounded) >= value:
        return rounded
    return np.nextafter(rounded, dtype.type(np.inf))


@functools.cache
def _ends_are_trusted() -> tuple[bool, bool]:
    """Whether the least and the greatest value of a trusted range are trusted.

    dxtbx excluded both before 3.12 and includes them since.
    """
    panel = Panel()
    panel.set_image_size((2, 1))
    panel.set_trusted_range((1, 2))
    image = flex.double([1, 2])
    image.reshape(flex.grid(1, 2))
    low, high = panel.get_trusted_range_mask(image)
    return low, high
