"""Which images are shown, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.image_name import ImageName, NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import read_labels
from dials_cnn_screen.labels.orders import diverse_order, random_order, uncertain_order
from dials_cnn_screen.screening.results import ImageResult, read_results

# The values of the parameter order for which a model's scores are needed.
ORDERS_BY_SCORES = ("uncertain", "diverse")


def read_scores(
    path: str | Path, names: Sequence[ImageName]
) -> list[ImageResult | None]:
    """The results that cnn_screen.json has of these images.

    Returns:
        (n,), in the order of the names; None for an image without a result.

    Raises:
        ValueError: The file is not one, or a name could be of several of its images.
        OSError: The file can't be read.
    """
    results = read_results(path).images
    index = NameIndex([result.name for result in results])
    found = [index.find(name) for name in names]
    return [None if i is None else results[i] for i in found]


def read_first_pass(
    compare: str | Path | None, annotation: str | Path, names: Sequence[ImageName]
) -> dict[int, Label]:
    """The labels of an earlier pass over these images, by index.

    Args:
        compare: The annotation file of that pass; None where there was none.
        annotation: The file that the labels of this pass are saved to.
        names: The images.

    Raises:
        ValueError: Both are the same file, or the earlier pass can't be read or labels
            none of the images.
    """
    if compare is None:
        return {}
    if Path(compare).resolve() == Path(annotation).resolve():
        raise ValueError(
            f"compare='{compare}' is the file that the labels are saved to; give "
            "another annotation=second.txt"
        )
    labels, _ = read_labels(compare, names)
    if not labels:
        raise ValueError(f"none of these images is labelled in '{compare}'")
    return labels


def choose_order(
    order: str,
    random_seed: int,
    names: Sequence[ImageName],
    results: Sequence[ImageResult | None],
    first_pass: Mapping[int, Label],
) -> list[int] | None:
    """Indices of the images to be shown, first to last; None for all as they are.

    Args:
        order: sequence, random, uncertain or diverse.
        random_seed: Of the random order.
        names: (n,), the images.
        results: (n,), as read_scores gives them; used for the last two orders only.
        first_pass: Labels by index. If there are any, only these images are shown, in
            random order.

    Raises:
        ValueError: An image has no result.
    """
    if first_pass:
        shuffled = random_order(len(names), random_seed)
        return [i for i in shuffled if i in first_pass]
    if order == "sequence":
        return None
    if order == "random":
        return random_order(len(names), random_seed)
    known = [result for result in results if result is not None]
    if len(known) < len(names):
        name = names[list(results).index(None)]
        raise ValueError(
            f"{name} has no scores; screen these images with dials.cnn_screen first"
        )
    if order == "uncertain":
        return uncertain_order([result.p_keep for result in known])
    return diverse_order(image_features(known))


def image_features(results: Sequence[ImageResult]) -> NDArray[np.float64]:
    """What diverse_order compares of images.

    Returns:
        float64 (n, 10): P(Hit), P(Maybe), P(Miss); the logarithms of 1 + number of
        spots and of 1 + ood_score, 0 where not known; mean and standard deviation of
        the positions of the spots, (slow, fast) in pixels; the place in the run. NaN
        for an image that could not be classified.
    """
    rows = [[*_features(result), i] for i, result in enumerate(results)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 10)


def _features(result: ImageResult) -> list[float]:
    """The first nine of image_features."""
    prediction = result.prediction
    if prediction is None:
        return [math.nan] * 9
    spots: NDArray = np.zeros((1, 2))
    if prediction.spots is not None and len(prediction.spots):
        spots = prediction.spots
    return [
        *prediction.probabilities,
        np.log1p(prediction.n_spots or 0),
        np.log1p(max(prediction.ood_score or 0, 0)),
        *spots.mean(axis=0),
        *spots.std(axis=0),
    ]
