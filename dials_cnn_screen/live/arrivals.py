"""What a live source gives, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.run import NamedImage


@dataclass(frozen=True)
class Unread:
    """An image that a source can name and not give.

    Attributes:
        name: Its name.
        error: Why it can't be classified.
    """

    name: ImageName
    error: str


class LiveSource(Protocol):
    """Where images come from.

    Attributes:
        waits: Whether images stay at the source as long as nobody takes them, as files
            do.
    """

    waits: bool

    def images(self, stop: threading.Event) -> Iterator[NamedImage | Unread]:
        """The images as they come, until the source ends or stop is set."""

    def read(self, image: Any) -> Frame:
        """The frame of an image, on any thread; whatever is raised is its error."""

    def postpone(self, image: Any) -> bool:
        """Whether an image that could not be classified will be given once more."""

    def faults(self) -> dict[str, Any]:
        """What is not as it should be: by name its number and the latest cases."""

    def size(self, image: Any) -> int:
        """The memory that an image takes as long as it waits, bytes."""


class Arrival(NamedTuple):
    """An image that waits.

    Attributes:
        place: In the order in which images came, from 0.
        image: As the source gave it.
        time: When it came, seconds of time.monotonic.
        n_bytes: Memory that it takes.
    """

    place: int
    image: NamedImage | Unread
    time: float
    n_bytes: int


class Done(NamedTuple):
    """An image with its result.

    Attributes:
        place: As in Arrival.
        image: As the source gave it.
        result: What was found.
        time: When it came, seconds of time.monotonic.
        seconds: From then to the result.
    """

    place: int
    image: NamedImage | Unread
    result: ImageResult
    time: float
    seconds: float
