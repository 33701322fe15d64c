"""Reading the next image while one is classified."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.raw_frame import RawFrame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still

# Frames read and not yet asked for; more would take memory and save no time. By hand.
MOST = 2


class ReadAhead(Source):
    """A source whose stills are asked for in order; it reads them before they are.

    One thread reads, one image after the other.
    """

    def __init__(self, executor: ThreadPoolExecutor, stills: Sequence[Still]) -> None:
        """Reads nothing before the first still is asked for.

        Args:
            executor: Of one thread.
            stills: That will be asked for first, once each and in this order.
        """
        super().__init__()
        self._executor = executor
        self._next = deque(stills)
        self._ahead: deque[Future[Frame]] = deque()

    def add(self, stills: Iterable[Still]) -> None:
        """More stills that will be asked for, after those that there are."""
        self._next.extend(stills)

    def read(self, still: Still) -> Frame:
        """The frame of the next still.

        Raises:
            ValueError, Exception: As read_frame does for this still.
        """
        return self._take(super().read)

    def read_for_gpu(self, still: Still) -> Frame | RawFrame:
        """The frame of the next still, as read_for_gpu of a source has it.

        Raises:
            ValueError, Exception: As read_frame does for this still.
        """
        return self._take(super().read_for_gpu)

    def _take(self, read: Callable[[Still], Any]) -> Any:
        """What the next still is read as; those after it are read in the same way."""
        while self._next and len(self._ahead) <= MOST:
            self._ahead.append(self._executor.submit(read, self._next.popleft()))
        return self._ahead.popleft().result()


@contextmanager
def read_ahead(stills: Sequence[Still]) -> Iterator[ReadAhead]:
    """A source that reads ahead, until the end or whatever happens before."""
    executor = ThreadPoolExecutor(1, "read_ahead")
    try:
        yield ReadAhead(executor, stills)
    finally:
        # At most the image that is being read is waited for.
        executor.shutdown(cancel_futures=True)
