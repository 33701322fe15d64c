"""Images to results as they come: one thread receives, others classify."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import replace

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.live.arrivals import Arrival, Done, LiveSource, Unread
from dials_cnn_screen.live.intake import Intake
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, decide
from dials_cnn_screen.screening.run import (
    Screener,
    make_screener,
    screen_frame,
    without_features,
)

FULL = (
    "not classified: images came faster than they were classified, and the queue was "
    "full"
)
ENDED = "not classified: the run was ended before"
# Hits that the page shows. By hand.
LATEST = 6
# Seconds between two looks at a clock where nothing comes. By hand.
_TICK = 0.2


class LiveRun:
    """Classifies what a source gives, as it comes.

    Attributes:
        intake: What waits.
        latest_hits: The latest, with their frames; the newest is the last.
        n_repeated: Images that came although they were done before.
    """

    def __init__(
        self,
        source: LiveSource,
        model: Model,
        device: str,
        decision: Decision,
        nproc: int,
        *,
        max_bytes: float,
        wait: bool,
        before: dict[int, ImageName] | None = None,
    ) -> None:
        """Nothing is received yet; the model is made ready.

        Args:
            source: Of the images.
            model, device, decision: As in make_screener.
            nproc: Threads that classify.
            max_bytes: Memory for images that wait.
            wait: Let the source wait when there is no more room; else images go
                unclassified.
            before: Images that are not classified again, by their places.
        """
        self.intake = Intake(max_bytes)
        self.latest_hits: deque[tuple[ImageResult, Frame]] = deque(maxlen=LATEST)
        self.n_repeated = 0
        self._source, self._decision = source, decision
        self._wait = wait or source.waits
        self._before = set((before or {}).values())
        self._n = 1 + max(before or {}, default=-1)
        self._stop = threading.Event()
        self._results: queue.SimpleQueue[Done | Exception | None] = queue.SimpleQueue()
        # One after the other, as each may compile; all they do with a source is read.
        self._screeners = [
            make_screener(model, device, decision)._replace(
                source=source  # type: ignore[arg-type]
            )
            for _ in range(nproc)
        ]

    def results(self) -> Generator[Done | None, None, None]:
        """The results as they come, and None now and then, until the source ends.

        Close the generator to stop before: rest then has what waited.

        Raises:
            Exception: Whatever the source raises.
        """
        threads = [threading.Thread(target=self._receive, daemon=True)] + [
            threading.Thread(target=self._classify, args=(s,), daemon=True)
            for s in self._screeners
        ]
        try:
            for thread in threads:
                thread.start()
            n_left = len(threads)
            while n_left:
                try:
                    item = self._results.get(timeout=_TICK)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(item, Exception):
                    raise item
                if item is None:  # a thread came to its end
                    n_left -= 1
                    continue
                yield item
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def rest(self) -> list[Done]:
        """After an early end: the results that nobody took, and images that waited.

        These are kept unclassified; files are left out, since they stay as they are.
        """
        rest = []
        while not self._results.empty():
            item = self._results.get()
            if isinstance(item, Done):
                rest.append(item)
        if self._source.waits:
            return rest
        waiting = self.intake.rest()
        return rest + [self._unread(arrival, ENDED) for arrival in waiting]

    def _receive(self) -> None:
        """Let what comes wait for those that classify."""
        try:
            for image in self._source.images(self._stop):
                if image.name in self._before:
                    self.n_repeated += 1
                    continue
                size = 0 if isinstance(image, Unread) else self._source.size(image)
                arrival = Arrival(self._n, image, time.monotonic(), size)
                self._n += 1
                if isinstance(image, Unread):
                    self._results.put(self._unread(arrival, image.error))
                else:
                    self._admit(arrival)
        except Exception as error:  # for the main thread, which ends the run
            self._results.put(error)
        self.intake.close()
        self._results.put(None)

    def _admit(self, arrival: Arrival) -> None:
        if self._wait:
            admitted = self.intake.put(arrival, self._stop)
            if admitted or self._source.waits:
                return
            why = ENDED
        elif self.intake.offer(arrival):
            return
        else:
            why = FULL
        self._results.put(self._unread(arrival, why))

    def _unread(self, arrival: Arrival, error: str) -> Done:
        """The result for an image that is not classified."""
        result = decide(arrival.image.name, None, error, self._decision)
        seconds = time.monotonic() - arrival.time
        return Done(arrival.place, arrival.image, result, arrival.time, seconds)

    def _classify(self, screener: Screener) -> None:
        """Classify what waits, until no more comes."""
        try:
            while (arrival := self.intake.take(self._stop)) is not None:
                result, frame = screen_frame(screener, arrival.image)
                if frame is not None and result.label is Label.HIT:
                    self.latest_hits.append((result, frame))
                prediction = without_features(result.prediction)
                result = replace(result, prediction=prediction)
                if prediction is None and self._source.postpone(arrival.image):
                    continue
                seconds = time.monotonic() - arrival.time
                self._results.put(
                    Done(arrival.place, arrival.image, result, arrival.time, seconds)
                )
        except Exception as error:  # for the main thread, which ends the run
            self._results.put(error)
        self._results.put(None)
