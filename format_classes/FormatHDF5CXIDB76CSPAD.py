"""CSPAD images of CXIDB-76: 64 ASICs on one array, zeros between them."""

from __future__ import annotations

from dials_cnn_screen.format_classes.FormatHDF5CXIDB76 import (
    FormatHDF5CXIDB76,
    count_active_areas,
)


class FormatHDF5CXIDB76CSPAD(FormatHDF5CXIDB76):
    """A file of CXIDB-76 with several active areas, the ASICs.

    The pixels along the edges of an ASIC are larger than the others, hence brighter.
    They are masked like the gaps.
    """

    _sensor = "SENSOR_PAD"
    _border = 1

    @staticmethod
    def understand(image_file: str) -> bool:
        """Whether the file is of this layout and has more than one active area."""
        return (count_active_areas(image_file) or 0) > 1
