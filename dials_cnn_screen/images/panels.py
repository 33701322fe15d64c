"""The panels of a detector on one array: an orthographic projection along the beam.

The fast axis is along +x and the slow axis along -y of the laboratory. The pixels of
the array, the canvas, are as large as those of the first panel. An index map says for
each canvas pixel which panel pixel contains its centre, so that there are no holes, and
each value is within a pixel of its true position. It is made once for a detector
geometry; a change of distance along the beam leaves it as it is.
"""

from __future__ import annotations

import functools

import numpy as np
from dxtbx.model import Beam, Detector, Panel
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import MAX_IMAGE_PIXELS, Frame

# A panel at less than about this sine of its angle to the beam (0.6 degrees) is edge-on
# and left out. By hand.
EDGE_ON = 0.01


def find_beam_centre(detector: Detector, beam: Beam) -> tuple[float, float]:
    """The beam centre of the frames of a geometry, as find_outline gives it."""
    return find_outline(detector, beam)[1]


def find_outline(
    detector: Detector, beam: Beam
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Shape and beam centre of the frames of a geometry, without reading an image.

    Args:
        detector: One panel or more.
        beam: Its direction counts.

    Returns:
        Two times (slow, fast) in pixels, as in Frame.

    Raises:
        ValueError: The beam is parallel to the only panel, or assemble could not put
            the panels together.
    """
    if len(detector) == 1:
        fast, slow = detector[0].get_image_size()
        return (slow, fast), _panel_centre(detector[0], beam)
    index_map, beam_centre = _lay_out(detector, beam)
    slow, fast = index_map.shape
    return (slow, fast), beam_centre


def _panel_centre(panel: Panel, beam: Beam) -> tuple[float, float]:
    """Where the beam meets the plane of a panel, (slow, fast) in pixels."""
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
    panels: list[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    detector: Detector,
    beam: Beam,
) -> Frame:
    """Put the panels of one image on one canvas.

    Args:
        panels: Data, float32 (slow, fast), and mask, bool (slow, fast), of each panel.
        detector: The panels' geometry, in the same order.
        beam: Its direction counts.

    Returns:
        A frame, 0 and masked in gaps. Where panels overlap the first is shown; those
        that are edge-on or behind the sample are left out.

    Raises:
        ValueError: No panel faces the beam, or the canvas would be larger than
            MAX_IMAGE_PIXELS.
    """
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


def find_panel_pixels(
    detector: Detector, beam: Beam, pixels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixels of panels that are shown at pixels of a frame.

    Args:
        detector: One panel or more.
        beam: Its direction counts.
        pixels: int64 (n, 2), (slow, fast) indices on the frame; none in a gap.

    Returns:
        int64 (n,), the panels, and int64 (n, 2), (slow, fast) indices on them.

    Raises:
        ValueError: As assemble does.
    """
    if len(detector) == 1:
        return np.zeros(len(pixels), np.int64), pixels
    index_map = _lay_out(detector, beam)[0]
    number = index_map[pixels[:, 0], pixels[:, 1]]  # (n,), of all pixels of all panels
    width, height = np.array([panel.get_image_size() for panel in detector]).T
    ends = np.cumsum(width * height)  # (panels,)
    panel = np.searchsorted(ends, number, side="right")  # (n,)
    on_panel = number - (ends - width * height)[panel]  # (n,)
    return panel, np.stack(np.divmod(on_panel, width[panel]), axis=1)


def _lay_out(
    detector: Detector, beam: Beam
) -> tuple[NDArray[np.intp], tuple[float, float]]:
    """Index map and beam centre of the canvas of a detector, by _map_canvas."""
    corners = _project(detector, beam)
    return _map_canvas(
        tuple(panel.get_image_size() for panel in detector),
        tuple(map(tuple, corners.round(3).reshape(len(detector), -1).tolist())),
    )


def _project(detector: Detector, beam: Beam) -> NDArray[np.float64]:
    """Three corners of each panel as seen along the beam.

    Returns:
        float64 (panels, 3, 2): the outer corner of the first pixel, the end of the
        first row (along fast) and that of the first column (along slow), each as
        (slow, fast) in canvas pixels from the beam. All 0 for a panel behind the
        sample.
    """
    along = np.array(beam.get_unit_s0())
    fast, slow = _canvas_axes(along)
    pixel_fast, pixel_slow = detector[0].get_pixel_size()
    axes = np.array([slow / pixel_slow, fast / pixel_fast]).T  # (3, 2), pixels / mm
    corners = np.empty((len(detector), 3, 3))  # (panels, corners, xyz), mm
    for panel, corner in zip(detector, corners, strict=True):
        width, height = panel.get_image_size_mm()
        corner[:] = panel.get_origin()
        corner[1] += np.multiply(panel.get_fast_axis(), width)
        corner[2] += np.multiply(panel.get_slow_axis(), height)
    centres = (corners[:, 1] + corners[:, 2]) / 2  # (panels, xyz), mm
    projected = corners @ axes  # (panels, corners, 2), pixels
    projected[centres @ along <= 0] = 0
    return projected


def _canvas_axes(
    along: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors across the beam nearest to +x (fast) and -y (slow) of the lab.

    For a beam along x, fast is the nearest to +z instead.

    Args:
        along: float64 (3,), unit vector along the beam.

    Returns:
        fast and slow, float64 (3,) each.
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
) -> tuple[NDArray[np.intp], tuple[float, float]]:
    """Which pixel of which panel each canvas pixel shows.

    Args:
        sizes: (fast, slow) of each panel in pixels.
        corners: Those of _project, six numbers a panel; tuples, so that a map can be
            found again.

    Returns:
        The index map, intp (slow, fast), into the pixels of all panels one after the
        other, with their total number for a gap; and the beam's position on the canvas,
        (slow, fast) in pixels.

    Raises:
        ValueError: No panel faces the beam, or the canvas would be too large.
    """
    size = np.array(sizes)  # (panels, 2)
    corner = np.array(corners).reshape(-1, 3, 2)  # (panels, corners, 2)
    origins = corner[:, 0]  # (panels, 2)
    # steps[p] @ (slow, fast) of a panel pixel: its way from the panel's origin.
    steps = np.stack([corner[:, 2] - origins, corner[:, 1] - origins], axis=-1)
    steps /= size[:, None, ::-1]  # (panels, 2, 2)
    areas = np.abs(np.linalg.det(steps))  # (panels,), 0 for one behind the sample
    facing = areas > EDGE_ON * np.abs(steps).max(axis=(1, 2)) ** 2  # (panels,)
    if not facing.any():
        raise ValueError(
            f"None of the {len(size)} detector panels faces the beam in front of the "
            "sample: check the geometry with dials.show"
        )
    last = corner[:, 1] + corner[:, 2] - origins  # (panels, 2)
    outline = np.concatenate([corner, last[:, None]], axis=1)  # (panels, 4, 2)
    start = outline[facing].min(axis=(0, 1))  # (2,)
    # Less a hundredth of a pixel, lest rounding adds an empty row.
    shape = np.ceil(outline[facing].max(axis=(0, 1)) - start - 0.01).astype(int)
    if shape.prod() > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"The {facing.sum()} detector panels put together would take {shape[0]} x "
            f"{shape[1]} pixels, more than {MAX_IMAGE_PIXELS}: check the geometry "
            "with dials.show, or leave out the panels far from the beam"
        )
    ends = np.cumsum(size.prod(axis=1))  # (panels,)
    index_map = np.full(shape, ends[-1], dtype=np.intp)
    for panel in reversed(np.flatnonzero(facing)):
        first = ends[panel] - size[panel].prod()
        _draw_panel(index_map, outline[panel] - start, steps[panel], size[panel], first)
    index_map.setflags(write=False)
    return index_map, tuple((-start).tolist())


def _draw_panel(
    index_map: NDArray[np.intp],
    outline: NDArray[np.float64],
    step: NDArray[np.float64],
    size: NDArray[np.int64],
    first: int,
) -> None:
    """Write the pixels of one panel into the index map.

    Args:
        index_map: intp (slow, fast), of the canvas; written to.
        outline: float64 (4, 2), the panel's corners on the canvas, (slow, fast), that
            of the origin first.
        step: float64 (2, 2), from panel pixels (slow, fast) to canvas pixels.
        size: int64 (2,), the panel's (fast, slow) pixels.
        first: The number of its first pixel.
    """
    width, height = size
    low = np.maximum(np.floor(outline.min(axis=0)), 0).astype(int)
    high = np.ceil(outline.max(axis=0)).astype(int)
    window = index_map[low[0] : high[0], low[1] : high[1]]  # (rows, columns)
    down, across = np.ogrid[: window.shape[0], : window.shape[1]]
    # Canvas pixel centres, from the panel's origin: (rows, 1) and (1, columns).
    down = down + low[0] + 0.5 - outline[0, 0]
    across = across + low[1] + 0.5 - outline[0, 1]
    to_panel = np.linalg.inv(step)
    # The panel pixel that contains each of them: (rows, columns).
    slow = np.floor(to_panel[0, 0] * down + to_panel[0, 1] * across).astype(np.intp)
    fast = np.floor(to_panel[1, 0] * down + to_panel[1, 1] * across).astype(np.intp)
    inside = (slow >= 0) & (slow < height) & (fast >= 0) & (fast < width)
    window[inside] = (first + slow * width + fast)[inside]
