"""Pixels of a stream to frames: masks, trusted range and beam centre."""

from __future__ import annotations

import numpy as np
from dxtbx.model import Experiment, ExperimentList, Panel
from numpy.typing import NDArray

from dials_cnn_screen.images.conversion import set_mask
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.geometry import check_geometry
from dials_cnn_screen.images.masks import StaticMask
from dials_cnn_screen.images.panels import assemble, find_beam_centre
from dials_cnn_screen.images.source import fill_panel
from dials_cnn_screen.live.series import Header


class Reference:
    """The geometry that a user gives for a stream.

    Attributes:
        detector, beam: Of the first experiment.
        mask: bool (slow, fast) of each panel, True = use.
    """

    def __init__(self, path: str, mask: str | None) -> None:
        """Read from an .expt file.

        Args:
            path: Of the file; the first experiment counts.
            mask: Of dials.generate_mask; None for none.

        Raises:
            ValueError: It has no detector or beam, or the mask does not fit.
            OSError: A file can't be read.
        """
        try:
            experiments = ExperimentList.from_file(path, check_format=False)
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{path} is no experiment list ({error})") from error
        first: Experiment = experiments[0] if len(experiments) else Experiment()
        if not first.detector or first.beam is None or first.imageset is None:
            raise ValueError(f"{path} has no images with a detector and a beam")
        if mask is not None:
            set_mask(experiments, mask)
        self.detector, self.beam = first.detector, first.beam
        check_geometry(self.detector, self.beam)
        self.mask = StaticMask().read(first.imageset)


def make_stream_frame(
    pixels: NDArray, header: Header, reference: Reference | None
) -> Frame:
    """The frame of an image of a stream.

    Args:
        pixels: (slow, fast), or (panels, slow, fast) with a reference.
        header: Of its series. Its mask counts in any case; beam centre and trusted
            range where there is no reference.
        reference: That the user gives; None for none.

    Raises:
        ValueError: There is no beam centre, or the pixels are not as many as the
            detector or the mask has.
    """
    raw = _mark(pixels) if header.has_markers else pixels
    panels = list(raw) if raw.ndim == 3 else [raw]
    if reference is None:
        return _without_reference(panels, header)
    shapes = [panel.get_image_size()[::-1] for panel in reference.detector]
    if [panel.shape for panel in panels] != shapes:
        found = " x ".join(map(str, pixels.shape))
        raise ValueError(
            f"the image has {found} pixels, and reference_geometry {shapes}"
        )
    mask = reference.mask
    if header.mask is not None:
        _check_mask(header.mask, raw)
        sent = list(header.mask) if header.mask.ndim == 3 else [header.mask]
        mask = [m & more for m, more in zip(mask, sent, strict=True)]
    detector, beam = reference.detector, reference.beam
    filled = [fill_panel(*each) for each in zip(panels, mask, detector, strict=True)]
    if len(filled) > 1:
        return assemble([(data, used) for data, used, _ in filled], detector, beam)
    data, used, used_range = filled[0]
    return Frame(data, used, find_beam_centre(detector, beam), used_range)


def _without_reference(panels: list[NDArray], header: Header) -> Frame:
    """The frame of one panel, by the header alone."""
    if len(panels) > 1:
        raise ValueError(
            f"the image has {len(panels)} panels; give reference_geometry with theirs"
        )
    if header.beam_centre is None:
        raise ValueError(
            "the stream does not say where the beam centre is; give reference_geometry"
        )
    (raw,) = panels
    mask = np.ones(raw.shape, bool) if header.mask is None else header.mask
    _check_mask(mask, raw)
    panel = Panel()
    low, high = header.trusted_range or (-1e30, 1e30)
    if header.has_markers:
        low = max(low, 0.0)
    panel.set_trusted_range((low, high))
    data, used, used_range = fill_panel(raw, mask, panel)
    return Frame(data, used, header.beam_centre, used_range)


def _check_mask(mask: NDArray[np.bool_], raw: NDArray) -> None:
    if mask.shape != raw.shape:
        raise ValueError(
            f"the image is {raw.shape} pixels and the mask of its series {mask.shape}"
        )


def _mark(pixels: NDArray) -> NDArray:
    """Pixels with -1 and -2 for those that a detector of Dectris has no value of."""
    # Not above: numba takes half a second.
    from dials_cnn_screen.images.frame_cpu import mark_pixels

    if pixels.dtype.kind != "u":
        return pixels
    if pixels.dtype.itemsize == 4:  # the greatest two are these numbers
        return pixels.view(np.int32)
    marked = np.empty(pixels.shape, np.int32)
    flat = marked.reshape(-1, pixels.shape[-1])
    top = 2 ** (8 * pixels.dtype.itemsize)
    mark_pixels(pixels.reshape(-1, pixels.shape[-1]), top, flat)
    return marked
