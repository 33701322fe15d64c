"""Images that came and wait to be classified: so many at most."""

from __future__ import annotations

import threading
import time
from collections import deque

from dials_cnn_screen.live.arrivals import Arrival

# Images that wait at most, whatever their size: stills of files, which are read when
# they are classified, take some kB each. By hand.
MOST_WAITING = 10_000
# Seconds after which a thread that waits looks whether it is to end. By hand.
_LOOK = 0.1


class Intake:
    """A queue between the thread that receives and those that classify."""

    def __init__(self, max_bytes: float) -> None:
        """Nothing waits.

        Args:
            max_bytes: Memory that the images may take. One image may always wait.
        """
        self._max_bytes = max_bytes
        self._waiting: deque[Arrival] = deque()
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, arrival: Arrival) -> bool:
        """Whether there was room for an image, which waits then."""
        with self._changed:
            has_room = self._n_bytes + arrival.n_bytes <= self._max_bytes
            if self._waiting and not (has_room and len(self._waiting) < MOST_WAITING):
                return False
            self._waiting.append(arrival)
            self._n_bytes += arrival.n_bytes
            self._changed.notify_all()
            return True

    def put(self, arrival: Arrival, stop: threading.Event) -> bool:
        """Let an image wait as soon as there is room; False if stop is set before."""
        while not self.offer(arrival):
            if stop.is_set():
                return False
            with self._changed:
                self._changed.wait(_LOOK)
        return True

    def take(self, stop: threading.Event) -> Arrival | None:
        """The image that has waited longest; None where no more will come."""
        with self._changed:
            while not self._waiting:
                if self._closed or stop.is_set():
                    return None
                self._changed.wait(_LOOK)
            if stop.is_set():
                return None
            arrival = self._waiting.popleft()
            self._n_bytes -= arrival.n_bytes
            self._changed.notify_all()
            return arrival

    def close(self) -> None:
        """No more images will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def rest(self) -> list[Arrival]:
        """The images that still wait; none does any more then."""
        with self._changed:
            rest = list(self._waiting)
            self._waiting.clear()
            self._n_bytes = 0
            return rest

    def behind(self) -> tuple[int, float]:
        """How many images wait, and for how many seconds the first one has."""
        with self._changed:
            if not self._waiting:
                return 0, 0.0
            return len(self._waiting), time.monotonic() - self._waiting[0].time
