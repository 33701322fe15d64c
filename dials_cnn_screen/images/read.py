"""From any still that dxtbx reads to one frame: array, mask and beam centre."""

from __future__ import annotations

from typing import Any

from dxtbx import flumpy
from dxtbx.imageset import ImageSet
from dxtbx.model import Beam, Detector

from dials_cnn_screen.images.frame import Frame, drop_non_finite
from dials_cnn_screen.images.geometry import check_geometry
from dials_cnn_screen.images.opening import Opener
from dials_cnn_screen.images.panels import assemble, find_beam_centre


def read_frame(imageset: ImageSet, index: int) -> Frame:
    """Read one still of an ImageSet, or of an ImageSequence of stills.

    The mask is dxtbx's: trusted range, untrusted rectangles, the format's static mask
    and the user's mask. Pedestal and gain are applied as dials.find_spots does, that is
    where the imageset's lookup files or the panels have any; the trusted range is that
    of the raw values.

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
