"""The panels of a detector on one array: an orthographic projection along the beam.

The fast axis is along +x and the slow axis along -y of the laboratory. The pixels of
the array are as large as those of the first panel. An index map says for each pixel
which panel pixel contains its centre, so that there are no holes, and each value stands
within a pixel of its true place. It is made once for a detector geometry; a change of
distance along the beam leaves it as it is.
"""

from __future__ import annotations

import functools

import numpy as np
from dxtbx.model import Beam, Detector, Panel

from dials_cnn_screen.images.frame import Frame

# 8192 x 8192: four times the largest detectors there are (16 megapixels).
MAX_CANVAS_PIXELS = 2**26

# A panel seen at less than this sine of its angle to the beam (0.6 degrees) is edge-on.
EDGE_ON = 0.01


def find_beam_centre(detector: Detector, beam: Beam) -> tuple[float, float]:
    """The beam centre of the frames of this geometry, (slow, fast), as in Frame.

    Raises ValueError as read_frame does.
    """
    if len(detector) == 1:
        return _panel_centre(detector[0], beam)
    return _lay_out(detector, beam)[1]


def _panel_centre(panel: Panel, beam: Beam) -> tuple[float, float]:
    """Where the beam meets the plane of a panel, in pixels (slow, fast)."""
    try:
        # Bidirectional: an s0 that points away from the panel has a beam centre too.
        fast, slow = panel.get_bidirectional_ray_intersection_px(beam.get_s0())
    except RuntimeError as error:
        raise ValueError(
            f"The beam along {beam.get_unit_s0()} is parallel to the detector panel "
            f"{panel.get_name()!r} and has no centre on it: check the geometry with "
            "dials.show"
        ) from error
    return slow, fast


def assemble(
    panels: list[tuple[np.ndarray, np.ndarray]], detector: Detector, beam: Beam
) -> Frame:
    """Put the panels on one canvas: float32 and bool (slow, fast), gaps 0 and False."""
    index_map, beam_centre = _lay_out(detector, beam)
    # The last element of both lists of panel pixels stands for the gaps.
    data = np.concatenate([*(data.ravel() for data, _ in panels), np.zeros(1, "f4")])
    mask = np.concatenate([*(mask.ravel() for _, mask in panels), np.zeros(1, bool)])
    # Clipping is the quickest mode; no index is out of range.
    return Frame(
        data.take(index_map, mode="clip"),
        mask.take(index_map, mode="clip"),
        beam_centre,
    )


def _lay_out(detector: Detector, beam: Beam) -> tuple[np.ndarray, tuple[float, float]]:
    """Index map and beam centre of the canvas of a detector, by _map_canvas."""
    corners = _project(detector, beam)
    return _map_canvas(
        tuple(panel.get_image_size() for panel in detector),
        tuple(map(tuple, corners.round(3).reshape(len(detector), -1).tolist())),
    )


def _project(detector: Detector, beam: Beam) -> np.ndarray:
    """Three corners of each panel as seen along the beam.

    Returns float64 (panel, 3, 2): the outer corner of the first pixel, and the ends of
    the first row (along fast) and of the first column (along slow), each as (slow,
    fast) in canvas pixels from the beam. All 0 for a panel behind the sample.
    """
    along = np.array(beam.get_unit_s0())
    fast, slow = _canvas_axes(along)
    pixel_fast, pixel_slow = detector[0].get_pixel_size()
    axes = np.array([slow / pixel_slow, fast / pixel_fast]).T
    corners = np.empty((len(detector), 3, 3))
    for panel, corner in zip(detector, corners, strict=True):
        width, height = panel.get_image_size_mm()
        corner[:] = panel.get_origin()
        corner[1] += np.multiply(panel.get_fast_axis(), width)
        corner[2] += np.multiply(panel.get_slow_axis(), height)
    centres = (corners[:, 1] + corners[:, 2]) / 2
    projected = corners @ axes
    projected[centres @ along <= 0] = 0
    return projected


def _canvas_axes(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors across the beam nearest to +x (fast) and -y (slow) of the lab.

    For a beam along x, fast is the nearest to +z instead.
    """
    x, minus_y = np.array([1.0, 0, 0]), np.array([0, -1.0, 0])
    if abs(along @ x) > 0.999:
        x = np.array([0, 0, 1.0])
    fast = x - (x @ along) * along
    fast /= np.linalg.norm(fast)
    slow = np.cross(along, fast)
    return fast, slow if slow @ minus_y >= 0 else -slow


@functools.lru_cache(maxsize=2)
def _map_canvas(
    sizes: tuple[tuple[int, int], ...], corners: tuple[tuple[float, ...], ...]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Which pixel of which panel each canvas pixel shows.

    sizes: (fast, slow) of each panel in pixels.
    corners: those of _project, six numbers a panel.
    Returns the index map, int (slow, fast), into the pixels of all panels one after the
    other, with their total number for a gap; and the place of the beam on the canvas,
    (slow, fast) in pixels. Where panels overlap the first is shown.
    Raises ValueError if no panel faces the beam or the canvas would be too large.
    """
    sizes, corners = np.array(sizes), np.array(corners).reshape(-1, 3, 2)
    origins = corners[:, 0]
    # steps[p] @ (slow, fast) of a panel pixel: its way from the panel's origin.
    steps = np.stack([corners[:, 2] - origins, corners[:, 1] - origins], axis=-1)
    steps /= sizes[:, None, ::-1]
    areas = np.abs(np.linalg.det(steps))  # 0 for a panel behind the sample
    facing = areas > EDGE_ON * np.abs(steps).max(axis=(1, 2)) ** 2
    if not facing.any():
        raise ValueError(
            f"None of the {len(sizes)} detector panels faces the beam in front of the "
            "sample: check the geometry with dials.show"
        )
    last = corners[:, 1] + corners[:, 2] - origins
    outline = np.concatenate([corners, last[:, None]], axis=1)
    start = outline[facing].min(axis=(0, 1))
    # Less a little, lest rounding adds an empty row.
    shape = np.ceil(outline[facing].max(axis=(0, 1)) - start - 0.01).astype(int)
    if shape.prod() > MAX_CANVAS_PIXELS:
        raise ValueError(
            f"The {facing.sum()} detector panels put together would take {shape[0]} x "
            f"{shape[1]} pixels, more than {MAX_CANVAS_PIXELS}: check the geometry "
            "with dials.show, or leave out the panels far from the beam"
        )
    ends = np.cumsum(sizes.prod(axis=1))
    index_map = np.full(shape, ends[-1], dtype=np.intp)
    for panel in reversed(np.flatnonzero(facing)):
        first = ends[panel] - sizes[panel].prod()
        _place(index_map, outline[panel] - start, steps[panel], sizes[panel], first)
    index_map.setflags(write=False)
    return index_map, tuple((-start).tolist())


def _place(
    index_map: np.ndarray,
    outline: np.ndarray,
    step: np.ndarray,
    size: np.ndarray,
    first: int,
) -> None:
    """Write the pixels of one panel, numbered from first on, into the index map.

    outline: (4, 2), its corners on the canvas (slow, fast), that of the origin first.
    step: (2, 2), size: (fast, slow), as in _map_canvas.
    """
    width, height = size
    low = np.maximum(np.floor(outline.min(axis=0)), 0).astype(int)
    high = np.ceil(outline.max(axis=0)).astype(int)
    window = index_map[low[0] : high[0], low[1] : high[1]]
    down, across = np.ogrid[: window.shape[0], : window.shape[1]]
    down = down + low[0] + 0.5 - outline[0, 0]
    across = across + low[1] + 0.5 - outline[0, 1]
    to_panel = np.linalg.inv(step)
    slow = np.floor(to_panel[0, 0] * down + to_panel[0, 1] * across).astype(np.intp)
    fast = np.floor(to_panel[1, 0] * down + to_panel[1, 1] * across).astype(np.intp)
    inside = (slow >= 0) & (slow < height) & (fast >= 0) & (fast < width)
    window[inside] = (first + slow * width + fast)[inside]
