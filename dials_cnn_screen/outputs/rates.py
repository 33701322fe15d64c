"""Rates of a run with their intervals: of each class, failed and kept."""

from __future__ import annotations

from dataclasses import dataclass

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import FAILED, ScreeningResults
from dials_cnn_screen.util.intervals import wilson_interval


@dataclass(frozen=True)
class Rate:
    """A number of images among all of a run.

    Attributes:
        title: What they are.
        count: How many.
        percent: Of all.
        interval: 95% interval of the rate, from 0 to 1 (Wilson).
    """

    title: str
    count: int
    percent: float
    interval: tuple[float, float]


def list_rates(results: ScreeningResults) -> list[Rate]:
    """Those of Hit, Maybe, Miss, of images that failed, and of those kept."""
    summary = results.summary()
    total = len(results.images)
    counts = {
        **{label.title: summary[label.key] or 0 for label in Label},
        FAILED: summary["failed"] or 0,
        "Kept": summary["kept"] or 0,
    }
    return [
        Rate(title, n, 100 * n / total, wilson_interval(n, total))
        for title, n in counts.items()
    ]
