"""How well predictions agree with labels: confusion matrices and success rate."""

from __future__ import annotations

import numpy as np

from dials_cnn_screen.labels import Label


def confusion_counts(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 (3, 3): rows true Hit, Maybe, Miss, columns predicted."""
    counts = np.zeros((len(Label), len(Label)), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels, int), np.asarray(predicted, int)), 1)
    return counts


def hit_or_miss(counts: np.ndarray) -> np.ndarray:
    """Counts (3, 3) with Hit and Maybe taken together, int64 (2, 2), as in Table 3."""
    return np.add.reduceat(np.add.reduceat(counts, [0, 2], axis=0), [0, 2], axis=1)


def row_percent(counts: np.ndarray) -> np.ndarray:
    """Each row as a percentage of its sum; NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return 100 * counts / counts.sum(axis=1, keepdims=True)


def success_rate(counts: np.ndarray) -> float:
    """Percentage of images that were classified rightly (equation 10)."""
    return float(100 * np.trace(counts) / counts.sum()) if counts.sum() else np.nan
