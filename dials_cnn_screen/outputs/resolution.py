"""How far the spots of images reach, from their places alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.geometry import find_d_spots
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.util.sampling import choose_evenly

# The share of an image's spots that its resolution is of: by hand, so that a false
# spot in a corner does not make it.
SHARE = 0.95
# Fewer spots tell no resolution: as in dials.spot_counts_per_image.
LEAST_SPOTS = 11
# Images whose resolution is found from the places of spots, at most: by hand, as a
# detector of many panels takes milliseconds for each.
MOST = 1000


def find_reach(still: Still, spots: NDArray[np.int64]) -> float | None:
    """The resolution that SHARE of an image's spots are within.

    Args:
        still: The image; its models count.
        spots: As in find_d_spots.

    Returns:
        Angstrom; None where there are too few spots to tell, or no models.
    """
    imageset, position = still.imageset, still.position
    detector, beam = imageset.get_detector(position), imageset.get_beam(position)
    if len(spots) < LEAST_SPOTS or not detector or beam is None:
        return None
    d = find_d_spots(detector, beam, spots)
    return float(1 / np.quantile(1 / d, SHARE))


def find_resolutions(
    images: Sequence[ImageResult], stills: Sequence[Still]
) -> tuple[str, list[float]]:
    """The resolutions of the hits of a run, and what they are, a sentence.

    Where DIALS has estimated those of the kept images (output.strong) it is these, else
    find_reach of hits, at most MOST of them, evenly along the run.

    Args:
        images: The results of the run.
        stills: The same images, in the same order.

    Returns:
        The sentence and the resolutions, Angstrom; an empty list where none is known.
    """
    hits = [place for place, image in enumerate(images) if image.label is Label.HIT]
    by_dials = [d for i in hits if (d := images[i].d_min) is not None]
    if by_dials:
        return _caption(
            "of a hit, as DIALS estimates it from its spots", by_dials
        ), by_dials
    reach = []
    for i in choose_evenly(hits, MOST):
        prediction = images[i].prediction
        if prediction is not None and prediction.spots is not None:
            reach.append(find_reach(stills[i], prediction.spots))
    known = [d for d in reach if d is not None]
    return _caption(f"within which {SHARE:.0%} of a hit's spots lie", known), known


def _caption(what: str, d_min: Sequence[float]) -> str:
    """What the resolutions are, and those of the middle and of the best image."""
    if not d_min:
        return ""
    return (
        f"Resolution {what}: median {np.median(d_min):.1f} Å, best {min(d_min):.1f} Å, "
        f"of {len(d_min)} hits"
    )
