"""Detectors as NeXus and CrystFEL describe them: the beam along +z, y up.

Both have the same laboratory frame (McStas). That of dxtbx (imgCIF) has z towards the
source; one is the other turned by half a turn about y.

https://manual.nexusformat.org/design.html#design-coordinatesystem
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dxtbx.model import Beam, Detector
from numpy.typing import NDArray

IMGCIF_TO_MCSTAS = np.diag([-1.0, 1.0, -1.0])


@dataclass(frozen=True, eq=False)
class PanelFrame:
    """Where a panel is, with the beam along +z, and its pixels in a stack of panels.

    Attributes:
        origin: float64 (3,), the outer corner of the first pixel, mm.
        fast, slow: float64 (3,), unit vectors along its axes.
        pixel_size: (fast, slow), mm.
        size: (fast, slow), pixels.
        first_row: Where the panel begins in the stack.
    """

    origin: NDArray[np.float64]
    fast: NDArray[np.float64]
    slow: NDArray[np.float64]
    pixel_size: tuple[float, float]
    size: tuple[int, int]
    first_row: int


def frame_panels(detector: Detector, beam: Beam) -> list[PanelFrame]:
    """The panels of a detector, one below the other in a stack, the beam along +z."""
    turn = IMGCIF_TO_MCSTAS @ _turn_to_minus_z(np.array(beam.get_unit_s0()))
    frames, row = [], 0
    for panel in detector:
        width, height = panel.get_image_size()
        frames.append(
            PanelFrame(
                turn @ panel.get_origin(),
                turn @ panel.get_fast_axis(),
                turn @ panel.get_slow_axis(),
                panel.get_pixel_size(),
                (width, height),
                row,
            )
        )
        row += height
    return frames


def find_distance(detector: Detector, beam: Beam) -> float:
    """How far along the beam the origin of the first panel is, mm."""
    return float(np.dot(detector[0].get_origin(), beam.get_unit_s0()))


def _turn_to_minus_z(along: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation that turns a unit vector to -z by the least angle.

    Rodrigues' formula with the cross product v and the cosine c: I + [v] + [v]^2 /
    (1 + c).
    """
    to = np.array([0.0, 0.0, -1.0])
    cosine = along @ to
    if cosine < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])  # half a turn about x
    x, y, z = np.cross(along, to)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
