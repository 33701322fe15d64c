"""How well predictions agree with labels, and how sure that is."""

from __future__ import annotations

import math

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


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    scores: (n,). positive: bool (n,). Equal scores count half (Mann & Whitney, 1947).
    NaN without both kinds.
    """
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(scores) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    total = mean_rank[place][positive].sum()
    return float(
        (total - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    )


def sensitivity_at(
    specificity: float, scores: np.ndarray, positive: np.ndarray
) -> float:
    """Fraction of positives kept by the cut in score that gives this specificity.

    scores: (n,), those of a cut or more are kept. positive: bool (n,). Between two cuts
    the ROC curve is a straight line: what choosing one of them at random gives. NaN
    without both kinds.
    """
    positive = np.asarray(positive, bool)
    _, place = np.unique(-np.asarray(scores), return_inverse=True)
    # How many of each kind are kept by ever lower cuts, from none on.
    kept = np.cumsum(np.bincount(place, positive))
    wrong = np.cumsum(np.bincount(place, ~positive))
    kept, wrong = np.insert(kept, 0, 0), np.insert(wrong, 0, 0)
    if not kept[-1] or not wrong[-1]:
        return math.nan
    # A little more, lest rounding misses the cut that gives just this specificity.
    allowed = (1 - specificity) * wrong[-1] + 1e-9
    last = int(np.searchsorted(wrong, allowed, side="right")) - 1
    if last + 1 == len(wrong):
        return 1.0
    share = (allowed - wrong[last]) / (wrong[last + 1] - wrong[last])
    return float((kept[last] + share * (kept[last + 1] - kept[last])) / kept[-1])


def calibration_error(p: np.ndarray, positive: np.ndarray, n_bins: int = 15) -> float:
    """Expected calibration error of probabilities p (n,) of being positive, bool (n,).

    The mean over n_bins equal bins of |mean p - fraction positive|, by number of images
    (Naeini et al., 2015).
    """
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, p - positive, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(p))


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95% interval of a rate, count out of total (Wilson 1927, JASA 22, 209)."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, count / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
