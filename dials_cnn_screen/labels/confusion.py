"""Two sets of labels of the same images: confusion matrices and their rates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.labels.label import Label


def confusion_counts(labels: ArrayLike, predicted: ArrayLike) -> NDArray[np.int64]:
    """Counts, int64 (3, 3): rows true Hit, Maybe, Miss, columns predicted."""
    counts = np.zeros((len(Label), len(Label)), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels, int), np.asarray(predicted, int)), 1)
    return counts


def hit_or_miss(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts (3, 3) with Hit and Maybe taken together, int64 (2, 2), as in Table 3."""
    return np.add.reduceat(np.add.reduceat(counts, [0, 2], axis=0), [0, 2], axis=1)


def row_percent(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row as a percentage of its sum; NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return 100 * counts / counts.sum(axis=1, keepdims=True)


def success_rate(counts: NDArray[np.int64]) -> float:
    """Percentage of images that were classified rightly (equation 10)."""
    return float(100 * np.trace(counts) / counts.sum()) if counts.sum() else math.nan


def cohen_kappa(counts: NDArray[np.int64]) -> float:
    """Agreement of two raters beyond chance, from counts (k, k); 1 if always.

    Rows: classes by the one, columns: by the other. 0 is what chance gives with their
    shares of the classes (Cohen, 1960). NaN where both know one class only.
    """
    total = counts.sum()
    if total == 0:
        return math.nan
    chance = float(counts.sum(axis=1) @ counts.sum(axis=0)) / total**2
    if chance == 1:
        return math.nan
    return float((np.trace(counts) / total - chance) / (1 - chance))
