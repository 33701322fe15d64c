"""Detectors of a few small panels."""

from __future__ import annotations

import pytest

PIXEL = 0.1  # mm


def _make_detector(*panels, size=(20, 30), trusted_range=(-1e30, 1e30)):
    """A detector of panels of 20 x 30 pixels (fast, slow) of 0.1 mm.

    panels: (fast axis, slow axis, origin in mm) of each.
    """
    from dxtbx.model import Detector

    detector = Detector()
    for fast, slow, origin in panels:
        panel = detector.add_panel()
        panel.set_image_size(size)
        panel.set_pixel_size((PIXEL, PIXEL))
        panel.set_trusted_range(trusted_range)
        panel.set_frame(fast, slow, origin)
    return detector


@pytest.fixture
def make_detector():
    """The function make_detector(*panels, size=..., trusted_range=...) -> Detector."""
    return _make_detector
