"""The table of all images on the report, as JSON that its script sorts and shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.decision import KeptBecause
from dials_cnn_screen.screening.results import FAILED, ImageResult

# Rows, at most: some 4 MB of page, which a browser sorts at once. By hand.
MOST_ROWS = 100_000
# Digits of what is shown.
_DIGITS = 3
_CLASSES = [*(label.title for label in Label), FAILED]
# Whether an image is kept, and why.
_KEPT = {
    None: "no",
    KeptBecause.P_KEEP: "yes",
    KeptBecause.ERROR: "not classified",
    KeptBecause.OUT_OF_DISTRIBUTION: "out of distribution",
    KeptBecause.AUDIT: "audit",
}


def tabulate_images(images: Sequence[ImageResult]) -> dict[str, Any]:
    """What the page says of each image, short since there may be many.

    Args:
        images: Of a run, in order; those after the first MOST_ROWS are left out.

    Returns:
        folder: Of all files, with a slash at the end, or empty. files: The rest of
        their paths. classes, kept: Words. rows: For each image the place of its file,
        its number, the places of its class and of whether it is kept, and the numbers
        of _numbers.
    """
    shown = images[:MOST_ROWS]
    paths = list(dict.fromkeys(image.name.path for image in shown))
    folder = _common_folder(paths)
    places = {path: place for place, path in enumerate(paths)}
    classes = {title: place for place, title in enumerate(_CLASSES)}
    kept = {reason: place for place, reason in enumerate(_KEPT)}
    return {
        "folder": folder,
        "files": [path[len(folder) :] for path in paths],
        "classes": _CLASSES,
        "kept": list(_KEPT.values()),
        "rows": [
            [
                places[image.name.path],
                image.name.number,
                classes[image.title],
                kept[image.kept_because],
                *_numbers(image),
            ]
            for image in shown
        ],
    }


def _common_folder(paths: Sequence[str]) -> str:
    """The folder of all paths, with a slash at the end; empty where they share none."""
    try:
        folder = os.path.commonpath([str(PurePath(path).parent) for path in paths])
    except ValueError:  # none, or some with a root and some without
        return ""
    start = os.path.join(folder, "")
    return start if all(path.startswith(start) for path in paths) else ""


def _numbers(image: ImageResult) -> list[float | None]:
    """P(Hit) + P(Maybe), P(Hit), spots, resolution and out-of-distribution score."""
    prediction = image.prediction
    if prediction is None:
        return [None] * 5
    numbers = (
        prediction.p_keep,
        float(prediction.probabilities[0]),
        prediction.n_spots,
        image.d_min,
        prediction.ood_score,
    )
    return [None if x is None else round(x, _DIGITS) for x in numbers]
