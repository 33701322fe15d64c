"""95% intervals of rates, areas under ROC curves and differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Standard deviations to each side of a mean that hold 95% of a normal distribution.
Z = 1.959964


def format_percent(count: float, total: int, digits: int = 1) -> str:
    """A rate in percent with its 95% interval: ``93.1 (90.2-95.4)``; none: ``none``."""
    if not total:
        return "none"
    low, high = wilson_interval(count, total)
    return f"{100 * count / total:.{digits}f} {format_interval(low, high, digits)}"


def format_interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of a rate, from 0 to 1, in percent and brackets: ``(90.2-95.4)``.

    That of a difference, which may be below 0, is of the form ``(-3.1 to 5.4)``.
    """
    between = " to " if low < 0 else "-"
    return f"({100 * low:.{digits}f}{between}{100 * high:.{digits}f})"


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


def as_percent(interval: tuple[float, float]) -> list[float]:
    """An interval of rates in percent, as JSON files have it."""
    return [round(100 * end, 2) + 0.0 for end in interval]  # 0.0 for -0.0


def paired_difference_interval(
    both: int, first_only: int, second_only: int, neither: int
) -> tuple[float, float]:
    """The 95% interval of the first rate less the second, both of the same images.

    Newcombe (1998), Stat. Med. 17, 2635, method 10: as difference_interval, with the
    correlation of the two.

    Args:
        both: Images that count for both rates.
        first_only: Those that count for the first alone.
        second_only: Those that count for the second alone.
        neither: Those that count for none; there is an image of some kind.
    """
    total = both + first_only + second_only + neither
    n_first, n_second = both + first_only, both + second_only
    first, second = n_first / total, n_second / total
    first_low, first_high = wilson_interval(n_first, total)
    second_low, second_high = wilson_interval(n_second, total)
    spread = n_first * n_second * (total - n_first) * (total - n_second)
    excess: float = both * neither - first_only * second_only
    if excess > 0:
        excess = max(0.0, excess - total / 2)
    correlation = excess / math.sqrt(spread) if spread else 0.0

    def length(one: float, other: float) -> float:
        square = one * one - 2 * correlation * one * other + other * other
        return math.sqrt(max(0.0, square))

    difference = first - second
    return (
        difference - length(first - first_low, second_high - second),
        difference + length(first_high - first, second - second_low),
    )


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
