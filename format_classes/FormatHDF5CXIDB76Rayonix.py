"""Rayonix images of CXIDB-76: one sensor with a hole in the middle."""

from __future__ import annotations

from dials_cnn_screen.format_classes.FormatHDF5CXIDB76 import (
    FormatHDF5CXIDB76,
    count_active_areas,
)


class FormatHDF5CXIDB76Rayonix(FormatHDF5CXIDB76):
    """A file of CXIDB-76 with one active area or none.

    A pixel of 0 was not measured (the central hole, section 3.2): the detector adds a
    pedestal of some 10 ADU, so that even a dark pixel is above 0. 0 is never trusted,
    whatever MIN_TRUSTED_VALUE says; no image has to be read to find the hole.
    """

    _sensor = "SENSOR_CCD"
    _least_trusted = 1

    @staticmethod
    def understand(image_file: str) -> bool:
        """Whether the file is of this layout and has one active area or none."""
        return count_active_areas(image_file) in (0, 1)
