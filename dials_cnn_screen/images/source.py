"""Stills to frames, one after the other: what images share is done once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from dxtbx import flumpy
from dxtbx.imageset import ImageSet
from dxtbx.model import Beam, Detector, Panel
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame, fill_trusted
from dials_cnn_screen.images.masks import StaticMask, trusted_values
from dials_cnn_screen.images.opening import Opener
from dials_cnn_screen.images.panels import assemble, find_beam_centre
from dials_cnn_screen.images.raw_frame import (
    Encoding,
    RawFrame,
    block_bytes,
)
from dials_cnn_screen.images.read import find_models, has_corrections, read_frame
from dials_cnn_screen.images.stills import Still


class Source:
    """Gives the frames that read_frame gives; each process has one.

    A file is opened once, as long as its images come together, and the mask that they
    share is made once. Images with a mask of their own (shadows of the goniometer), and
    those that are corrected for pedestal and gain, are left to read_frame.
    """

    def __init__(self) -> None:
        """Nothing is open yet; the kernel is compiled, so that no frame waits."""
        # Not above: h5py is not for those who only ask for help.
        from dials_cnn_screen.images.hdf5 import FastHDF5

        pixel = np.zeros((1, 1), np.int32)
        fill_panel(pixel, pixel == 0, Panel())
        self._opener = Opener()
        self._hdf5 = FastHDF5()
        self._static_mask = StaticMask()
        # What dxtbx would read of the last still; None where that is not at hand.
        self._raw_data: Callable[[], tuple[Any, ...]] | None = None

    def read(self, still: Still) -> Frame:
        """The frame of a still.

        Raises:
            ValueError, Exception: As read_frame does.
        """
        return self._read(*self._open(still))

    def read_for_gpu(self, still: Still) -> Frame | RawFrame:
        """The frame of a still, as its file has it where kernels make a frame of that.

        Raises:
            ValueError, Exception: As read_frame does.
        """
        image = self._open(still)
        return self._read_raw(*image) or self._read(*image)

    def _open(self, still: Still) -> tuple[ImageSet, int, Detector, Beam]:
        """The imageset that reads a still, its position there, and its models."""
        self._raw_data = None
        imageset, index = self._opener.open(still.imageset, still.position)
        return imageset, index, *find_models(imageset, index)

    def _read(
        self, imageset: ImageSet, index: int, detector: Detector, beam: Beam
    ) -> Frame:
        """The frame of an image."""
        if _is_changed(imageset, index):
            return read_frame(imageset, index)
        panels = self._read_pixels(imageset, index)
        if not _fit(panels, detector):
            return read_frame(imageset, index)
        static_mask = self._static_mask.read(imageset)
        if len(panels) > 1:
            filled = [
                fill_panel(*each)[:2]
                for each in zip(panels, static_mask, detector, strict=True)
            ]
            return assemble(filled, detector, beam)
        data, mask, used = fill_panel(panels[0], static_mask[0], detector[0])
        return Frame(data, mask, find_beam_centre(detector, beam), used)

    def _read_raw(
        self, imageset: ImageSet, index: int, detector: Detector, beam: Beam
    ) -> RawFrame | None:
        """The image as its file has it; None where kernels make no frame of it."""
        if len(detector) != 1 or _is_changed(imageset, index):
            return None
        if (found := self._hdf5.read_raw(imageset, index)) is None:
            return None
        (data, compression), reader = found
        static_mask = self._static_mask.read(imageset)[0]
        block = block_bytes(data, compression, reader.dtype, static_mask.size)
        trusted = trusted_values(detector[0], reader.dxtbx_dtype)
        low, high = (end.item() for end in trusted)
        # Where the range is no range, nothing is known of what is above it.
        if reader.shape != static_mask.shape or block is None or low >= high:
            return None
        encoding = Encoding(reader.dtype, block, static_mask, low, high, reader.top)
        return RawFrame(data, encoding, find_beam_centre(detector, beam))

    def _read_pixels(self, imageset: ImageSet, index: int) -> list[NDArray]:
        """The raw pixels of each panel, (slow, fast), until the next image is read."""
        pixels = self._hdf5.read(imageset, index)
        if pixels is not None:
            self._raw_data = lambda: (self._hdf5.as_dxtbx(pixels),)
            return [pixels]
        raw_data = imageset.get_raw_data(index)
        self._raw_data = lambda: raw_data
        # dxtbx keeps the last image of each imageset, and each still may have its own.
        imageset.clear_cache()
        return [flumpy.to_numpy(panel) for panel in raw_data]

    @contextlib.contextmanager
    def handing_over(self, still: Still) -> Iterator[None]:
        """Within, dxtbx does not read a still from its file again.

        Images that are corrected, or have a mask of their own, it does.

        Args:
            still: That which was read last; its imageset was opened with its format.
        """
        if self._raw_data is None:
            yield
            return
        reader, raw_data = still.imageset.reader(), self._raw_data()
        read, wanted = reader.read, still.imageset.indices()[still.position]
        reader.read = lambda index: raw_data if index == wanted else read(index)
        try:
            yield
        finally:
            del reader.read


def _is_changed(imageset: ImageSet, index: int) -> bool:
    """Whether an image has a mask of its own, or is corrected for pedestal and gain."""
    return bool(imageset.has_dynamic_mask() or has_corrections(imageset, index))


def _fit(panels: list[NDArray], detector: Detector) -> bool:
    """Whether the pixels are numbers, as many as the detector has."""
    shapes = [panel.get_image_size()[::-1] for panel in detector]
    return [p.shape for p in panels] == shapes and all(
        p.dtype.kind in "iuf" for p in panels
    )


def fill_panel(
    raw: NDArray, static_mask: NDArray[np.bool_], panel: Panel
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float]]:
    """Pixels, mask and used range of a panel, as of fill_trusted.

    Args:
        raw: (slow, fast) numbers, ADU.
        static_mask: bool (slow, fast), True = use.
        panel: Its trusted range counts.
    """
    return fill_trusted(raw, static_mask, *trusted_values(panel, raw.dtype))
