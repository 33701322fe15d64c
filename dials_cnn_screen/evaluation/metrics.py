"""How well scores rank images, and how well probabilities are calibrated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def area_under_curve(scores: NDArray, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    Equal scores count half (Mann & Whitney, 1947, Ann. Math. Stat. 18, 50).

    Args:
        scores: (n,) numbers.
        positive: (n,).

    Returns:
        From 0 to 1; NaN without both kinds.
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
    scores: NDArray, positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates of ever lower cuts.

    Args:
        scores: (n,) numbers; those of a cut or more are kept.
        positive: (n,).

    Returns:
        Two arrays (k + 1,) from 0 to 1, for no image and then each of the k cuts: the
        fraction of the negatives kept (1 - specificity), and that of the positives
        (sensitivity). NaN where there is none of a kind.
    """
    kept, wrong = _kept_by_cut(scores, positive)
    with np.errstate(invalid="ignore"):
        return wrong / wrong[-1], kept / kept[-1]


def sensitivity_at(
    specificity: float, scores: NDArray, positive: NDArray[np.bool_]
) -> float:
    """Fraction of positives kept by the cut in score that gives this specificity.

    Between two cuts the ROC curve is a straight line: what choosing one of them at
    random gives.

    Args:
        specificity: Fraction of negatives rejected, from 0 to 1.
        scores: (n,) numbers; those of a cut or more are kept.
        positive: (n,).

    Returns:
        From 0 to 1; NaN without both kinds.
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
    specificity: float, counts: NDArray[np.int64], positive: NDArray[np.bool_]
) -> int:
    """The lowest cut in counts that has this specificity or more on these images.

    Args:
        specificity: Fraction of negatives rejected, from 0 to 1.
        counts: (n,); images of a cut or more are kept.
        positive: (n,), with some that are not.
    """
    negatives = np.asarray(counts)[~np.asarray(positive, bool)]
    # A little less, lest rounding asks for one more negative.
    most = np.quantile(negatives, max(specificity - 1e-9, 0), method="inverted_cdf")
    return int(most) + 1


def best_cut(counts: NDArray[np.int64], positive: NDArray[np.bool_]) -> int:
    """The lowest cut in counts of the largest sensitivity + specificity, at least 1.

    Unlike a success rate it does not depend on how many of the images are positive
    (Youden, 1950, Cancer 3, 32).

    Args:
        counts: (n,); images of a cut or more are kept.
        positive: (n,), with both kinds.
    """
    counts = np.maximum(counts, 1)
    kept, wrong = _kept_by_cut(counts, positive)
    gain = (kept / kept[-1] - wrong / wrong[-1])[1:]
    # Cuts are ever lower: the last of equals is the lowest.
    last = len(gain) - 1 - np.argmax(gain[::-1])
    return int(np.unique(counts)[::-1][last])


def calibration_error(
    p: NDArray[np.float64], positive: NDArray[np.bool_], n_bins: int = 15
) -> float:
    """Expected calibration error (Naeini et al., 2015, Proc. AAAI, 2901).

    The mean over bins of |mean p - fraction positive|, weighted by number of images.

    Args:
        p: (n,), probabilities of being positive.
        positive: (n,).
        n_bins: Of equal width.

    Returns:
        From 0 to 1; NaN without images.
    """
    bins = reliability(p, positive, n_bins)
    gaps = sum(abs(b.images * b.mean_p - b.positive) for b in bins)
    return gaps / len(p) if len(p) else math.nan


class ReliabilityBin(NamedTuple):
    """The images with probabilities in a range.

    Attributes:
        low: The least probability.
        high: The largest.
        images: How many there are.
        mean_p: Their mean probability.
        positive: How many of them are positive.
    """

    low: float
    high: float
    images: int
    mean_p: float
    positive: int


def reliability(
    p: NDArray[np.float64], positive: NDArray[np.bool_], n_bins: int = 15
) -> list[ReliabilityBin]:
    """How often images are positive, by the probability that they are given.

    Args:
        p: (n,), probabilities of being positive.
        positive: (n,).
        n_bins: Of equal width; those without images are left out.
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
    scores: NDArray, positive: NDArray[np.bool_]
) -> tuple[NDArray, NDArray]:
    """How many positives and negatives are kept by ever lower cuts, from none on."""
    positive = np.asarray(positive, bool)
    _, place = np.unique(-np.asarray(scores), return_inverse=True)
    kept = np.cumsum(np.bincount(place, positive))
    wrong = np.cumsum(np.bincount(place, ~positive))
    return np.insert(kept, 0, 0), np.insert(wrong, 0, 0)
