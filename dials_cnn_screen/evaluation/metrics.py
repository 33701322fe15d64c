"""How well scores rank images, and how well probabilities are calibrated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


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


def roc_curve(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the negatives and of the positives kept by ever lower cuts.

    scores: (n,), those of a cut or more are kept. positive: bool (n,). Returns two
    float64 arrays from 0 to 1, one entry a cut: 1 - specificity, and sensitivity. NaN
    where there is none of a kind.
    """
    kept, wrong = _kept_by_cut(scores, positive)
    with np.errstate(invalid="ignore"):
        return wrong / wrong[-1], kept / kept[-1]


def sensitivity_at(
    specificity: float, scores: np.ndarray, positive: np.ndarray
) -> float:
    """Fraction of positives kept by the cut in score that gives this specificity.

    scores: (n,), those of a cut or more are kept. positive: bool (n,). Between two cuts
    the ROC curve is a straight line: what choosing one of them at random gives. NaN
    without both kinds.
    """
    kept, wrong = _kept_by_cut(scores, positive)
    if not kept[-1] or not wrong[-1]:
        return math.nan
    # A little more, lest rounding misses the cut that gives just this specificity.
    allowed = (1 - specificity) * wrong[-1] + 1e-9
    last = int(np.searchsorted(wrong, allowed, side="right")) - 1
    if last + 1 == len(wrong):
        return 1.0
    share = (allowed - wrong[last]) / (wrong[last + 1] - wrong[last])
    return float((kept[last] + share * (kept[last + 1] - kept[last])) / kept[-1])


def cut_at_specificity(
    specificity: float, counts: np.ndarray, positive: np.ndarray
) -> int:
    """The lowest cut in counts, int (n,), that has this specificity or more on them.

    Images of a cut or more are kept. positive: bool (n,), with some that are not.
    """
    negatives = np.asarray(counts)[~np.asarray(positive, bool)]
    # A little less, lest rounding asks for one more negative.
    most = np.quantile(negatives, max(specificity - 1e-9, 0), method="inverted_cdf")
    return int(most) + 1


def best_cut(counts: np.ndarray, positive: np.ndarray) -> int:
    """The lowest cut in counts, int (n,), of the largest sensitivity + specificity.

    Images of a cut or more are kept (Youden, 1950, Cancer 3, 32: it does not depend on
    how many of the images are positive). positive: bool (n,), with both kinds. At
    least 1.
    """
    counts = np.maximum(counts, 1)
    kept, wrong = _kept_by_cut(counts, positive)
    gain = (kept / kept[-1] - wrong / wrong[-1])[1:]
    # Cuts are ever lower: the last of equals is the lowest.
    last = len(gain) - 1 - np.argmax(gain[::-1])
    return int(np.unique(counts)[::-1][last])


def calibration_error(p: np.ndarray, positive: np.ndarray, n_bins: int = 15) -> float:
    """Expected calibration error of probabilities p (n,) of being positive, bool (n,).

    The mean over n_bins equal bins of |mean p - fraction positive|, by number of images
    (Naeini et al., 2015). NaN without images.
    """
    bins = reliability(p, positive, n_bins)
    gaps = sum(abs(b.images * b.mean_p - b.positive) for b in bins)
    return gaps / len(p) if len(p) else math.nan


class ReliabilityBin(NamedTuple):
    """Images of a range of probability: how many, their mean p, how many positive."""

    low: float
    high: float
    images: int
    mean_p: float
    positive: int


def reliability(
    p: np.ndarray, positive: np.ndarray, n_bins: int = 15
) -> list[ReliabilityBin]:
    """How often images are positive, bool (n,), that are given a chance p (n,) of it.

    n_bins bins of equal width; those without images are left out.
    """
    place = np.minimum((np.asarray(p) * n_bins).astype(int), n_bins - 1)
    images = np.bincount(place, minlength=n_bins)
    total_p = np.bincount(place, p, minlength=n_bins)
    hits = np.bincount(place, positive, minlength=n_bins)
    return [
        ReliabilityBin(
            i / n_bins,
            (i + 1) / n_bins,
            int(images[i]),
            float(total_p[i] / images[i]),
            int(hits[i]),
        )
        for i in np.flatnonzero(images)
    ]


def _kept_by_cut(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many positives and negatives are kept by ever lower cuts, from none on."""
    positive = np.asarray(positive, bool)
    _, place = np.unique(-np.asarray(scores), return_inverse=True)
    kept = np.cumsum(np.bincount(place, positive))
    wrong = np.cumsum(np.bincount(place, ~positive))
    return np.insert(kept, 0, 0), np.insert(wrong, 0, 0)
