"""How well predictions agree with labels, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dials_cnn_screen.labels.label import Label

# Standard deviations to each side of a mean that hold 95% of a normal distribution.
Z = 1.959964


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


def cohen_kappa(counts: np.ndarray) -> float:
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


def bootstrap_interval(
    measure: Callable[[np.ndarray], Any],
    positive: np.ndarray,
    n_samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """The 95% interval of a measure of images, by drawing them again and again.

    measure: of the chosen images, given as indices, int (n,); a number, or several.
    positive: bool (n,), with both kinds; each sample has as many of each as there are.
    Returns the 2.5 and 97.5 percentiles of n_samples, float64 (2, ...) (Efron &
    Tibshirani, 1986, Stat. Sci. 1, 54).
    """
    kinds = np.flatnonzero(positive), np.flatnonzero(~np.asarray(positive, bool))
    rng = np.random.default_rng(seed)
    samples = [
        measure(np.concatenate([rng.choice(kind, len(kind)) for kind in kinds]))
        for _ in range(n_samples)
    ]
    return np.percentile(samples, [2.5, 97.5], axis=0)


def wilson_interval(count: float, total: int) -> tuple[float, float]:
    """The 95% interval of a rate, count out of total (Wilson 1927, JASA 22, 209)."""
    if total == 0:
        return 0.0, 1.0
    p = count / total
    centre = p + Z * Z / (2 * total)
    half = Z * math.sqrt(p * (1 - p) / total + Z * Z / (4 * total * total))
    scale = 1 + Z * Z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def area_interval(area: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """The 95% interval of an area under a ROC curve.

    Newcombe (2006), Stat. Med. 25, 559, method 5, which for areas is what Wilson's is
    for rates: the areas theta from which the one found is 1.96 standard deviations
    away, with the variance that Hanley & McNeil (1982) give for theta.
    """
    half = (n_positive + n_negative) / 2 - 1

    def deviations(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * spread / (n_positive * n_negative)
        return abs(area - theta) / math.sqrt(variance)

    def bound(theta: float) -> float:
        """From theta, 0 or 1, towards the area, to where it is 1.96 deviations off."""
        outside, inside = theta, area
        for _ in range(50):
            middle = (outside + inside) / 2
            if 0 < middle < 1 and deviations(middle) < Z:
                inside = middle
            else:
                outside = middle
        return inside

    return bound(0.0), bound(1.0)


def difference_interval(
    first: float,
    first_interval: Sequence[float],
    second: float,
    second_interval: Sequence[float],
) -> tuple[float, float]:
    """The 95% interval of first - second, from their own (Newcombe, 1998, method 10).

    Stat. Med. 17, 873. As of two independent values; wide for two of the same images.
    """
    down = math.hypot(first - first_interval[0], second_interval[1] - second)
    up = math.hypot(first_interval[1] - first, second - second_interval[0])
    return first - second - down, first - second + up


def _kept_by_cut(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many positives and negatives are kept by ever lower cuts, from none on."""
    positive = np.asarray(positive, bool)
    _, place = np.unique(-np.asarray(scores), return_inverse=True)
    kept = np.cumsum(np.bincount(place, positive))
    wrong = np.cumsum(np.bincount(place, ~positive))
    return np.insert(kept, 0, 0), np.insert(wrong, 0, 0)
