"""CSPAD images of CXIDB-76: 64 ASICs on one monolithic array, zeros between them."""

from __future__ import annotations

from dials_cnn_screen.format_classes.FormatHDF5CXIDB76 import (
    FormatHDF5CXIDB76,
    count_active_areas,
)


class FormatHDF5CXIDB76CSPAD(FormatHDF5CXIDB76):
    """A file of CXIDB-76 with several active areas, the ASICs.

    The pixels along the edges of an ASIC are larger than the others, hence brighter,
    and are masked with the gaps.
    """

    _sensor = "SENSOR_PAD"
    _border = 1

    @staticmethod
    def understand(image_file: str) -> bool:
        return (count_active_areas(image_file) or 0) > 1
