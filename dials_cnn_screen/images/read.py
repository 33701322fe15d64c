"""From any still that dxtbx reads to one frame: array, mask and beam centre."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from dxtbx import flumpy
from dxtbx.imageset import ImageSequence, ImageSet
from dxtbx.model import Beam, Detector, Panel
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame, drop_non_finite
from dials_cnn_screen.images.geometry import check_geometry
from dials_cnn_screen.images.masks import StaticMask, trusted_values
from dials_cnn_screen.images.opening import Opener
from dials_cnn_screen.images.panels import assemble, find_beam_centre


def read_frame(imageset: ImageSet, index: int) -> Frame:
    """Read one still of an ImageSet, or of an ImageSequence of stills.

    The mask is dxtbx's: trusted range, untrusted rectangles, the format's static mask
    and the user's mask. Only pixels above the trusted range that are signal are used
    as well, with values by overloads_cpu.py. Pedestal and gain are applied as
    dials.find_spots does, that is where the imageset's lookup files or the panels have
    any; the trusted range is that of the raw values.

    Args:
        imageset: With a detector and a beam model for each image; read with or without
            its format.
        index: The image's position in it.

    Returns:
        The frame, float32 (slow, fast), ADU.

    Raises:
        ValueError: The image has no detector or beam model, its panels cannot be put
            together, or the beam is parallel to the only panel.
        Exception: Whatever dxtbx raises when it cannot read the image.
    """
    imageset, index = Opener().open(imageset, index)
    detector, beam = find_models(imageset, index)
    panels = [
        drop_non_finite(flumpy.to_numpy(pixels), flumpy.to_numpy(mask))
        for pixels, mask in zip(
            _read_pixels(imageset, index), imageset.get_mask(index), strict=True
        )
    ]
    _use_overloads(panels, imageset, index)
    # dxtbx keeps the last image of each imageset, and each still may have its own.
    imageset.clear_cache()
    if len(detector) == 1:
        return Frame(*panels[0], find_beam_centre(detector, beam))
    return assemble(panels, detector, beam)


def find_models(imageset: ImageSet, index: int) -> tuple[Detector, Beam]:
    """The models of one image; ValueError where it has none, or they make no sense."""
    detector, beam = imageset.get_detector(index), imageset.get_beam(index)
    if not detector or beam is None:
        _ask_format(imageset, index)
        raise ValueError(
            f"Image {index} has no detector or beam model: the file may be incomplete "
            "or its header damaged; if the header has none, import it with "
            "dials.import and a reference geometry"
        )
    check_geometry(detector, beam)
    return detector, beam


def _ask_format(imageset: ImageSet, index: int) -> None:
    """Let the format of an image without models raise its own error, if it has any."""
    if imageset.reader().is_single_file_reader():
        path, number = imageset.get_path(index), imageset.indices()[index]
        instance = imageset.get_format_class().get_instance(path, **imageset.params())
        instance.get_beam(number)
        instance.get_detector(number)


def has_corrections(imageset: ImageSet, index: int) -> bool:
    """Whether an image is to be corrected for pedestal or gain.

    dxtbx has an empty tuple for a gain of 1 and a pedestal of 0: no time is spent on a
    corrected copy, in double precision, that would be the same.
    """
    return bool(imageset.get_gain(index) or imageset.get_pedestal(index))


def _read_pixels(imageset: ImageSet, index: int) -> tuple[Any, ...]:
    """One flex array for each panel, corrected for pedestal and gain if need be."""
    if has_corrections(imageset, index):
        return imageset.get_corrected_data(index)
    return imageset.get_raw_data(index)


def _use_overloads(
    panels: list[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    imageset: ImageSet,
    index: int,
) -> None:
    """Use the overloaded pixels of an image that are signal.

    Args:
        panels: Data, float32 (slow, fast), and mask, bool (slow, fast), of each panel;
            written to.
        imageset, index: The image.
    """
    # Not above: numba takes half a second.
    from dials_cnn_screen.images.overloads_cpu import OVERLOADED, USED, use_overloads

    detector = imageset.get_detector(index)
    raw = [flumpy.to_numpy(pixels) for pixels in imageset.get_raw_data(index)]
    highs = [_greatest_trusted(p, r) for p, r in zip(detector, raw, strict=True)]
    above = [pixels > high for pixels, high in zip(raw, highs, strict=True)]
    if not any(pixels.any() for pixels in above):
        return
    allowed = _allowed_pixels(imageset, index)
    gains = _lookup(imageset.get_gain(index), len(detector), 1.0)
    pedestals = _lookup(imageset.get_pedestal(index), len(detector), 0.0)
    for i, ((data, mask), high) in enumerate(zip(panels, highs, strict=True)):
        values, finite = drop_non_finite(raw[i], allowed[i])
        overloaded = finite & above[i]  # (slow, fast)
        states = np.where(overloaded, OVERLOADED, mask)
        use_overloads(states, overloaded.any(axis=1), values, high)
        signal = overloaded & (states == USED)
        data[signal] = ((values - pedestals[i]) / gains[i])[signal]
        mask |= signal


def _greatest_trusted(panel: Panel, raw: NDArray) -> float:
    """The greatest trusted value of a panel's raw pixels, ADU.

    Infinite where the range is no range: nothing is known of what is above it.
    """
    low, high = (end.item() for end in trusted_values(panel, raw.dtype))
    return high if low < high else math.inf


def _lookup(
    maps: tuple[Any, ...], n_panels: int, default: float
) -> list[NDArray[np.float64]]:
    """The maps of gain or pedestal, (slow, fast) each; the default where none is."""
    return [flumpy.to_numpy(each) for each in maps] or [np.array(default)] * n_panels


def _allowed_pixels(imageset: ImageSet, index: int) -> list[NDArray[np.bool_]]:
    """What dxtbx masks but for the trusted range, bool (slow, fast), True = use."""
    allowed = StaticMask().read(imageset)
    masker = imageset.masker() if isinstance(imageset, ImageSequence) else None
    if masker is None:
        return allowed
    scan = imageset.get_scan()
    first, _ = scan.get_image_range()
    angle = scan.get_angle_from_image_index(first + index)  # degrees
    shadows = masker.get_mask(imageset.get_detector(), angle)
    return [
        mask & flumpy.to_numpy(shadow)
        for mask, shadow in zip(allowed, shadows, strict=True)
    ]
