"""The three classes of stills, by their number of visible Bragg spots."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

HIT_SPOTS = 10
MAYBE_SPOTS = 4


class Label(IntEnum):
    """The class of a still; the value is its column in a network's output."""

    HIT = 0
    MAYBE = 1
    MISS = 2

    @property
    def title(self) -> str:
        """The class as people read it: Hit, Maybe or Miss."""
        return self.name.capitalize()

    @property
    def key(self) -> str:
        """The class in names of JSON keys: hit, maybe or miss."""
        return self.name.lower()


def label_from_spots(n_spots: int) -> Label:
    """Class of a still with n_spots visible Bragg spots (section 3.3.1).

    Ten or more are a Hit, four to nine a Maybe, fewer a Miss.
    """
    if n_spots >= HIT_SPOTS:
        return Label.HIT
    return Label.MAYBE if n_spots >= MAYBE_SPOTS else Label.MISS


def count_labels(labels: Iterable[int]) -> dict[Label, int]:
    """Number of images of each class, all three of them, in the order of Label."""
    counts = dict.fromkeys(Label, 0)
    for label in labels:
        counts[Label(label)] += 1
    return counts


def format_counts(counts: dict[Label, int]) -> str:
    """Counts as people read them: ``12 Hit, 3 Maybe, 85 Miss``."""
    return ", ".join(f"{counts[label]} {label.title}" for label in Label)
