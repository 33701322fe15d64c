"""Whether the images of a series come once each, and in order."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import Any

# Names of cases that are shown. By hand.
_NAMED = 5


def describe_fault(number: int, names: Iterable[Any]) -> dict[str, Any]:
    """The number of images that are not as they should be, and the latest names."""
    return {"number": number, "latest": [str(name) for name in list(names)[-_NAMED:]]}


class Fault:
    """Images of one kind that are not as they should be.

    Attributes:
        number: How many.
    """

    def __init__(self) -> None:
        """None yet."""
        self.number = 0
        self._latest: deque[str] = deque(maxlen=_NAMED)

    def add(self, name: str) -> None:
        """One case more."""
        self.number += 1
        self._latest.append(name)

    def as_json(self) -> dict[str, Any]:
        """As describe_fault has it."""
        return describe_fault(self.number, self._latest)


class SeriesOrder:
    """Which images of a series came; gaps are kept, not numbers.

    Attributes:
        next: The number after the greatest that came.
    """

    def __init__(self, first: int) -> None:
        """None came.

        Args:
            first: The number of the first image that is to come.
        """
        self.next = first
        # Numbers that did not come, [begin, end) each, in order.
        self._gaps: list[list[int]] = []

    def add(self, number: int) -> str:
        """Note an image; new, late (after a later one) or repeated."""
        if number >= self.next:
            if number > self.next:
                self._gaps.append([self.next, number])
            self.next = number + 1
            return "new"
        i = bisect_right(self._gaps, [number, self.next]) - 1
        if i < 0 or not self._gaps[i][0] <= number < self._gaps[i][1]:
            return "repeated"
        begin, end = self._gaps[i]
        parts = [[begin, number], [number + 1, end]]
        self._gaps[i : i + 1] = [part for part in parts if part[0] < part[1]]
        return "late"

    def end(self, n_images: int | None) -> None:
        """No more will come of so many; None where that is not known."""
        if n_images is not None and n_images >= self.next:
            self._gaps.append([self.next, n_images + 1])
            self.next = n_images + 1

    def missing(self) -> int:
        """How many did not come before one that did."""
        return sum(end - begin for begin, end in self._gaps)

    def missing_names(self) -> list[str]:
        """The latest gaps: ``7`` or ``12-15``."""
        return [
            f"{begin}" if end == begin + 1 else f"{begin}-{end - 1}"
            for begin, end in self._gaps[-_NAMED:]
        ]
