"""Geometry that makes no sense, found before an image is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from dxtbx.model import Beam, Detector, ExperimentList, Panel
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import MAX_IMAGE_PIXELS, beam_misses_by
from dials_cnn_screen.images.panels import find_outline, find_panel_pixels

# The beam is far off a detector when it misses it by its longer edge. By hand.
FAR_OFF = 1.0

_REMEDY = "check the geometry with dials.show, and import with the right one"


def check_geometry(detector: Detector, beam: Beam) -> None:
    """Refuse models by which an image can't be classified.

    Raises:
        ValueError: A number that has to be positive is not, one is not finite, the
            detector is where the sample is, or it has more pixels than
            MAX_IMAGE_PIXELS.
    """
    wavelength = beam.get_wavelength()
    if not 0 < wavelength < math.inf or not np.isfinite(beam.get_s0()).all():
        raise ValueError(f"the wavelength is {wavelength:g} A; {_REMEDY}")
    check_size(detector)
    for panel in detector:
        sizes = (*panel.get_image_size(), *panel.get_pixel_size())
        if not all(0 < size < math.inf for size in sizes):
            raise ValueError(
                "the detector has {} x {} pixels of {:g} x {:g} mm; {}".format(
                    *sizes, _REMEDY
                )
            )
    if not any(_distance(panel) > 0 for panel in detector):
        raise ValueError(
            f"the detector's distance is {detector[0].get_directed_distance():g} mm; "
            f"{_REMEDY}"
        )


def find_d_spots(
    detector: Detector, beam: Beam, spots: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The resolution at each of the spots: d = wavelength / (2 sin theta).

    Args:
        detector, beam: Of the image.
        spots: int64 (n, 2), (slow, fast) indices on the frame, as in Prediction.

    Returns:
        float64 (n,), Angstrom; infinite in the beam.

    Raises:
        ValueError: As assemble does.
    """
    panels, places = find_panel_pixels(detector, beam, spots)
    # Columns: the fast axis, the slow axis, the origin.
    to_lab = np.array([panel.get_d_matrix() for panel in detector]).reshape(-1, 3, 3)
    pixel = np.array([panel.get_pixel_size() for panel in detector])  # (panels, 2), mm
    on_panel = (places[:, ::-1] + 0.5) * pixel[panels]  # (n, 2), (fast, slow), mm
    xyz = np.einsum("nij,nj->ni", to_lab[panels], np.c_[on_panel, np.ones(len(panels))])
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)  # (n, 3), unit vectors
    sin_theta = np.linalg.norm(xyz - beam.get_unit_s0(), axis=1) / 2
    with np.errstate(divide="ignore"):
        return beam.get_wavelength() / (2 * sin_theta)


def find_spacings(
    detector: Detector, beam: Beam, rings: Sequence[NDArray[np.int64]]
) -> tuple[float, ...]:
    """The spacings of powder rings, A: of each the median of those of its pixels.

    Args:
        detector, beam: Of the image.
        rings: Pixels of each ring, int64 (m, 2), (slow, fast) indices on the frame.
    """
    if not rings:
        return ()
    d = find_d_spots(detector, beam, np.concatenate(rings))
    of_rings = np.split(d, np.cumsum([len(pixels) for pixels in rings])[:-1])
    return tuple(float(np.median(of_ring)) for of_ring in of_rings)


def check_size(detector: Detector) -> None:
    """Refuse images that are too large to read.

    Raises:
        ValueError: The detector has more pixels than MAX_IMAGE_PIXELS.
    """
    n_pixels = sum(math.prod(panel.get_image_size()) for panel in detector)
    if n_pixels > MAX_IMAGE_PIXELS:
        first = " x ".join(map(str, detector[0].get_image_size()[::-1]))
        raise ValueError(
            f"the image is said to have {n_pixels} pixels ({first} on the first "
            f"panel), more than {MAX_IMAGE_PIXELS}; {_REMEDY}"
        )


def _distance(panel: Panel) -> float:
    """From the sample to the plane of a panel, mm; NaN if its place is not finite."""
    if not np.isfinite(panel.get_d_matrix()).all():
        return math.nan
    return abs(panel.get_directed_distance())


def format_far_off(experiments: ExperimentList) -> str | None:
    """A sentence on detectors that the beam misses by far; None if there are none."""
    far = list(_far_off(experiments))
    if not far:
        return None
    sizes, path = far[0]
    more = f", and {len(far) - 1} more detector models" if len(far) > 1 else ""
    return (
        f"The beam misses the detector by {sizes:.1f} times its size ({path}{more}); "
        "check the beam centre with dials.show"
    )


def _far_off(experiments: ExperimentList) -> Iterator[tuple[float, str]]:
    """By how much the beam misses each detector that it misses by far, and a file."""
    seen = set()
    for experiment in experiments:
        detector, beam = experiment.detector, experiment.beam
        if not detector or beam is None or hash(detector) in seen:
            continue
        seen.add(hash(detector))  # that of the object: images share their models
        try:
            check_geometry(detector, beam)
            misses_by = beam_misses_by(*find_outline(detector, beam))
        except ValueError:  # its images say so
            continue
        if misses_by >= FAR_OFF:
            yield misses_by, experiment.imageset.get_path(0)
