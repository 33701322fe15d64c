"""A labelling session: the current image, changes and undo, and the rate."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from numpy.typing import ArrayLike

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.labels.orders import reorder

# The rate is that of the latest labels.
_LATEST = 20


@dataclass(frozen=True)
class Keys:
    """The keys of the tool; those for Hit, Maybe, Miss as in the deposited tool.

    Attributes:
        hit, maybe, miss: Label the image and go to the next.
        previous, next: Go back or on by one image.
        next_unlabelled: Go to the next image without a label.
        undo: Undo the last change and go to its image.
        clear: Remove the label of the image.
        whole_frame: Show the whole frame, and back.
        answer: Show the model's answer for a labelled image, and hide it.
        train: Train on the labels so far and re-order the other images, or stop that.
        eye: Fit an eye to the labels so far, and order the other images by its doubt.

    Raises:
        ValueError: A key is not one printable character, or is used twice.
    """

    hit: str = "j"
    maybe: str = "k"
    miss: str = "l"
    previous: str = "p"
    next: str = "n"
    next_unlabelled: str = "t"
    undo: str = "u"
    clear: str = "c"
    whole_frame: str = "w"
    answer: str = "m"
    train: str = "r"
    eye: str = "e"

    def __post_init__(self) -> None:
        used: dict[str, str] = {}
        for field in fields(self):
            key = str(getattr(self, field.name))  # None is no key
            if len(key) != 1 or not key.isprintable() or key.isspace():
                raise ValueError(
                    f"keys.{field.name}='{key}' is not a single letter, digit or symbol"
                )
            if key.lower() in used:
                raise ValueError(
                    f"keys.{used[key.lower()]} and keys.{field.name} are both '{key}'"
                )
            used[key.lower()] = field.name

    def find_action(self, key: str) -> str | None:
        """The field that a key, upper or lower case, belongs to; None if to none."""
        for field in fields(self):
            if getattr(self, field.name).lower() == key.lower():
                return field.name
        return None


class Session:
    """The images in the order in which they are shown, and the current one.

    Attributes:
        labels: The label file.
        order: Indices of the images to be shown, first to last.
        current: Index of the current image, among the names of the label file.
    """

    def __init__(
        self,
        labels: LabelFile,
        order: Sequence[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at the first image without a label, or at the first if all have one.

        Args:
            labels: The label file.
            order: Indices of the images to be shown; None shows all in the file's
                order.
            clock: Gives the time, in seconds.
        """
        self.labels = labels
        self._set_order(list(range(len(labels.names)) if order is None else order))
        self._undo: list[tuple[int, Label | None]] = []
        self._clock = clock
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=_LATEST)
        self.current = self.order[0]
        if self.label is not None:
            self.next_unlabelled()

    @property
    def name(self) -> ImageName:
        """The name of the current image, as the label file has it."""
        return self.labels.short_names[self.current]

    @property
    def label(self) -> Label | None:
        """The label of the current image."""
        return self.labels.get(self.current)

    @property
    def position(self) -> int:
        """The current image's number in the order, from 1; 0 if it is not in it."""
        return self._positions.get(self.current, -1) + 1

    @property
    def done(self) -> int:
        """How many images of the order have a label."""
        return sum(self.labels.get(i) is not None for i in self.order)

    @property
    def left(self) -> int:
        """How many images of the order have no label."""
        return len(self.order) - self.done

    @property
    def rate(self) -> float | None:
        """Labels per minute; None before the second label.

        From the median interval, so that a break does not count.
        """
        if not self._intervals:
            return None
        return 60 / max(statistics.median(self._intervals), 1e-3)

    @property
    def minutes_left(self) -> float | None:
        """How long the images without a label take at this rate; None without one."""
        return None if self.rate is None else self.left / self.rate

    def choose(self, label: Label) -> None:
        """Label the current image, on disk, and go to the next.

        Raises:
            OSError: The label can't be written; nothing is changed then.
        """
        self._set(self.current, label)
        now = self._clock()
        if self._last is not None:
            self._intervals.append(now - self._last)
        self._last = now
        self.next()

    def clear(self) -> None:
        """Remove the current image's label. Raises OSError as choose does."""
        if self.label is not None:
            self._set(self.current, None)

    def undo(self) -> bool:
        """Undo the last change and go to its image; False if there is none.

        Raises OSError as choose does.
        """
        if not self._undo:
            return False
        index, before = self._undo[-1]
        self.labels.set(index, before)
        self._undo.pop()
        self.current = index
        return True

    def next(self) -> None:
        """Go to the next image; from an image not in the order, back into the order."""
        if self.position:
            self._step(+1)
        else:
            self.next_unlabelled()

    def previous(self) -> None:
        """Go to the previous image."""
        self._step(-1)

    def next_unlabelled(self) -> bool:
        """Go to the next image without a label, first to last; False if all have one.

        After the last image of the order the search starts over at its first.
        """
        for index in self.order[self.position :] + self.order[: self.position]:
            if self.labels.get(index) is None:
                self.current = index
                return True
        return False

    def reorder(self, p_keep: ArrayLike) -> None:
        """Show next the images without a label whose class is the least certain.

        Those with a label, and the current image, come before them.

        Args:
            p_keep: (n,), P(Hit) + P(Maybe) of all images of the label file, or any
                score that is 0.5 where it is least certain; NaN for an unknown one.
        """
        labelled = self.labels.labels
        order = self.order
        if self.current not in labelled:  # it is the next to be labelled
            order = sorted(order, key=lambda index: index == self.current)
        self._set_order(reorder(order, {*labelled, self.current}, p_keep))

    def go_to(self, index: int) -> None:
        """Go to an image that was chosen in the viewer."""
        self.current = index

    def following(self) -> int | None:
        """The index of the next image; None if there is none."""
        if self.position in (0, len(self.order)):
            return None
        return self.order[self.position]

    def _set_order(self, order: list[int]) -> None:
        self.order = order
        self._positions = {index: i for i, index in enumerate(order)}

    def _set(self, index: int, label: Label | None) -> None:
        before = self.labels.get(index)
        self.labels.set(index, label)
        self._undo.append((index, before))

    def _step(self, by: int) -> None:
        target = self.position - 1 + by
        if self.position and 0 <= target < len(self.order):
            self.current = self.order[target]
