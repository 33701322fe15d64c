"""Two rates beside each other: of the same images, or of two sets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.util.intervals import (
    as_percent,
    difference_interval,
    paired_difference_interval,
    wilson_interval,
)

# Below this chance a difference is taken for real; that of a 95% interval.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """The rate of one run and that of another.

    Attributes:
        title: What the rate is of.
        counts: Images that count, of the first run and of the second.
        totals: Of how many, one or more.
        interval: 95% interval of the first rate less the second, from -1 to 1.
        only: Where the images are the same: how many count in the first run alone, and
            in the second alone; else None.
        p_value: McNemar's exact test of those two; None where the images differ.
    """

    title: str
    counts: tuple[int, int]
    totals: tuple[int, int]
    interval: tuple[float, float]
    only: tuple[int, int] | None = None
    p_value: float | None = None

    @property
    def difference(self) -> float:
        """The first rate less the second."""
        (first, second), (n_first, n_second) = self.counts, self.totals
        return first / n_first - second / n_second

    def as_json(self) -> dict[str, Any]:
        """The rates and their difference, in percent."""
        return {
            "name": self.title,
            "counts": list(self.counts),
            "totals": list(self.totals),
            "percent": [
                round(100 * n / total, 2)
                for n, total in zip(self.counts, self.totals, strict=True)
            ],
            "interval_percent": [
                as_percent(wilson_interval(n, total))
                for n, total in zip(self.counts, self.totals, strict=True)
            ],
            "difference_percent": round(100 * self.difference, 2),
            "difference_interval_percent": as_percent(self.interval),
            "only": None if self.only is None else list(self.only),
            "p_value": self.p_value,
        }


def compare_paired(
    title: str, first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> Difference:
    """The rates of two runs of the same images, one image or more.

    Args:
        title: What the rates are of.
        first: (n,), the images that count in the first run.
        second: (n,), those that count in the second.
    """
    both, only_first, only_second, neither = (
        int(np.count_nonzero(chosen))
        for chosen in (
            first & second,
            first & ~second,
            ~first & second,
            ~first & ~second,
        )
    )
    return Difference(
        title,
        (both + only_first, both + only_second),
        (len(first), len(second)),
        paired_difference_interval(both, only_first, only_second, neither),
        (only_first, only_second),
        mcnemar(only_first, only_second),
    )


def compare_independent(
    title: str, counts: tuple[int, int], totals: tuple[int, int]
) -> Difference:
    """The rates of two runs of different images; totals are one or more."""
    rates = [n / total for n, total in zip(counts, totals, strict=True)]
    first, second = (
        wilson_interval(n, total) for n, total in zip(counts, totals, strict=True)
    )
    interval = difference_interval(rates[0], first, rates[1], second)
    return Difference(title, counts, totals, interval)


def mcnemar(only_first: int, only_second: int) -> float:
    """The chance of so unequal numbers, or more so, if both are as likely.

    McNemar's test by the binomial distribution (McNemar, 1947, Psychometrika 12, 153);
    two-sided. 1 where there are none.
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0
