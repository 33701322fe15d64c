"""Rayonix images of CXIDB-76: one sensor with a hole in the middle."""

from __future__ import annotations

from dials_cnn_screen.format_classes.FormatHDF5CXIDB76 import (
    FormatHDF5CXIDB76,
    count_active_areas,
)


class FormatHDF5CXIDB76Rayonix(FormatHDF5CXIDB76):
    """A file of CXIDB-76 with one active area or none.

    A pixel of 0 was not measured (the central hole): the detector adds a pedestal of
    some 10 ADU, so that even a dark pixel reads more. 0 is therefore never trusted,
    whatever MIN_TRUSTED_VALUE says; no image has to be read to find the hole.
    """

    _sensor = "SENSOR_CCD"
    _least_trusted = 1

    @staticmethod
    def understand(image_file: str) -> bool:
        return count_active_areas(image_file) in (0, 1)
