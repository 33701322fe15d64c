"""The order in which images are labelled, so that few labels are enough."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD


def random_order(n: int, seed: int) -> list[int]:
    """The indices of n images in random order."""
    return np.random.default_rng(seed).permutation(n).tolist()


def uncertain_order(p_keep: ArrayLike) -> list[int]:
    """The images nearest to the decision first (Lewis & Gale, 1994).

    Args:
        p_keep: (n,), P(Hit) + P(Maybe); NaN for an image that could not be classified.

    Returns:
        Indices by the distance of P(Hit) + P(Maybe) from 0.5, NaN last.
    """
    distance = np.abs(np.asarray(p_keep, dtype=np.float64) - PAPER_THRESHOLD)
    return np.argsort(np.nan_to_num(distance, nan=np.inf), kind="stable").tolist()


def reorder(
    order: Sequence[int], fixed: Container[int], p_keep: ArrayLike
) -> list[int]:
    """An order whose first images stay, and the others go by uncertainty.

    Args:
        order: Indices of the images, first to last; any part of all images.
        fixed: Indices of those that stay, before all others and as they were.
        p_keep: As of uncertain_order, for all images.

    Returns:
        The same indices.
    """
    wanted = {i for i in order if i not in fixed}
    first = [i for i in order if i in fixed]
    return first + [i for i in uncertain_order(p_keep) if i in wanted]


def diverse_order(features: NDArray[np.float64]) -> list[int]:
    """Each image as different as possible from those before it.

    The greedy choice of k centres (Sener & Savarese, 2018): first the image nearest to
    the mean, then always the one farthest from all chosen. Each feature is scaled to a
    variance of 1.

    Args:
        features: (n, f); NaN for an image that could not be classified.

    Returns:
        Indices, rows with NaN last.
    """
    unknown = np.isnan(features).any(axis=1)
    rows, last = np.flatnonzero(~unknown).tolist(), np.flatnonzero(unknown).tolist()
    if not rows:
        return last
    x = features[rows]
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    chosen = [int(np.argmin((x**2).sum(axis=1)))]
    distance = np.full(len(x), np.inf)  # of each image from the nearest chosen one
    for _ in range(len(x) - 1):
        to_latest = ((x - x[chosen[-1]]) ** 2).sum(axis=1)
        distance = np.minimum(distance, to_latest)
        distance[chosen[-1]] = -1  # not again, even among equal images
        chosen.append(int(np.argmax(distance)))
    return [rows[i] for i in chosen] + last
