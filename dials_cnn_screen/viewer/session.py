"""A session of labelling: which image it is, what was chosen, how fast it goes."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile, Name

# The rate is that of the last labels.
_LATEST = 20


@dataclass(frozen=True)
class Keys:
    """The keys of the tool; Hit, Maybe, Miss as in the deposited one."""

    hit: str = "j"
    maybe: str = "k"
    miss: str = "l"
    previous: str = "p"
    next: str = "n"
    next_unlabelled: str = "t"
    undo: str = "u"
    clear: str = "c"

    def __post_init__(self) -> None:
        used: dict[str, str] = {}
        for field in fields(self):
            key = str(getattr(self, field.name))  # None is no key
            if len(key) != 1 or not key.isprintable() or key.isspace():
                raise ValueError(
                    f"keys.{field.name}='{key}' is not one letter, digit or sign"
                )
            if key.lower() in used:
                raise ValueError(
                    f"keys.{used[key.lower()]} and keys.{field.name} are both '{key}'"
                )
            used[key.lower()] = field.name

    def meaning(self, key: str) -> str | None:
        """The button that a key stands for, large letters or small; None if none."""
        for field in fields(self):
            if getattr(self, field.name).lower() == key.lower():
                return field.name
        return None


class Session:
    """The images in the order in which they are shown, and the expert's place there.

    current: index of the image, among the names of the label file.
    """

    def __init__(
        self,
        labels: LabelFile,
        order: Sequence[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """order: indices of the images to be shown; None for all, as they come.

        Starts at the first without a label, or at the first if all have one.
        """
        self.labels = labels
        self.order = list(range(len(labels.names)) if order is None else order)
        self._place = {index: place for place, index in enumerate(self.order)}
        self._undo: list[tuple[int, Label | None]] = []
        self._clock = clock
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=_LATEST)
        self.current = self.order[0]
        if self.label is not None:
            self.next_unlabelled()

    @property
    def name(self) -> Name:
        return self.labels.names[self.current]

    @property
    def label(self) -> Label | None:
        """The label of the current image."""
        return self.labels.get(self.name)

    @property
    def place(self) -> int:
        """The current image's number in the order, from 1; 0 if it is not in it."""
        return self._place.get(self.current, -1) + 1

    @property
    def done(self) -> int:
        """How many images of the order have a label."""
        names = self.labels.names
        return sum(self.labels.get(names[i]) is not None for i in self.order)

    @property
    def left(self) -> int:
        return len(self.order) - self.done

    @property
    def rate(self) -> float | None:
        """Labels a minute; None before the second.

        By the median interval, so that a break does not count.
        """
        if not self._intervals:
            return None
        return 60 / max(statistics.median(self._intervals), 1e-3)

    @property
    def minutes_left(self) -> float | None:
        return None if self.rate is None else self.left / self.rate

    def choose(self, label: Label) -> None:
        """Label the current image, on disk, and go to the next.

        Raises OSError where the label can't be written; nothing is changed then.
        """
        self._set(self.current, label)
        now = self._clock()
        if self._last is not None:
            self._intervals.append(now - self._last)
        self._last = now
        self.next()

    def clear(self) -> None:
        """Take the current image's label away."""
        if self.label is not None:
            self._set(self.current, None)

    def undo(self) -> bool:
        """Take the last change back and go to its image; False if there is none."""
        if not self._undo:
            return False
        index, before = self._undo[-1]
        self.labels.set(self.labels.names[index], before)
        self._undo.pop()
        self.current = index
        return True

    def next(self) -> None:
        """Go on by one; from outside of the order, back into it."""
        if self.place:
            self._step(+1)
        else:
            self.next_unlabelled()

    def previous(self) -> None:
        self._step(-1)

    def next_unlabelled(self) -> bool:
        """Go to the next without a label, round the end; False if all have one."""
        start = self._place.get(self.current, -1) + 1
        names = self.labels.names
        for index in self.order[start:] + self.order[:start]:
            if self.labels.get(names[index]) is None:
                self.current = index
                return True
        return False

    def go_to(self, index: int) -> None:
        """Follow the viewer to an image that was chosen there."""
        self.current = index

    def following(self) -> int | None:
        """The image that comes next, if there is one."""
        place = self._place.get(self.current)
        if place is None or place + 1 == len(self.order):
            return None
        return self.order[place + 1]

    def _set(self, index: int, label: Label | None) -> None:
        name = self.labels.names[index]
        before = self.labels.get(name)
        self.labels.set(name, label)
        self._undo.append((index, before))

    def _step(self, by: int) -> None:
        place = self._place.get(self.current)
        if place is not None and 0 <= place + by < len(self.order):
            self.current = self.order[place + by]
