"""What a live run has come to so far, for the page and for a monitor."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.live.arrivals import Done
from dials_cnn_screen.live.run import FULL
from dials_cnn_screen.screening.hit_rates import HitRate
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.util.intervals import as_percent

# Images that the recent rates and the latency are of, and names that are shown of those
# that could not be classified. By hand.
RECENT, NAMED = 500, 20
# Blocks of time that the hit rate is drawn in at most, and the shortest, s. By hand.
BLOCKS, SHORTEST = 60, 5.0


class Account:
    """Numbers of a live run; results are added as they come.

    Attributes:
        rate: Of the classified images of the whole run, with what was there before it
            was resumed. One that could not be classified tells nothing of the sample.
        n_kept: Images that are kept, classified or not.
        failed: The latest images that could not be classified.
        n_failed: Images that could not be classified.
        n_full: Of these, those that came when the queue was full.
    """

    def __init__(self, source: str, before: list[ImageResult]) -> None:
        """The clock starts.

        Args:
            source: Where images come from.
            before: Results of a run that is resumed.
        """
        self.rate = HitRate(source)
        self.failed: deque[ImageResult] = deque(maxlen=NAMED)
        self.n_kept = self.n_failed = self.n_full = 0
        self._labels: Counter[str] = Counter()
        self._start, self._started = time.monotonic(), _now()
        # Of each classified image: seconds from the start, whether Hit, whether kept.
        self._came, self._hits, self._kept = array("d"), bytearray(), bytearray()
        self._latency: deque[float] = deque(maxlen=RECENT)
        self._ended: deque[float] = deque(maxlen=RECENT)
        for result in before:
            self._count(result)

    def add(self, done: Done) -> None:
        """One image more has its result."""
        result = done.result
        self._count(result)
        if result.prediction is None:
            return
        self._came.append(done.time - self._start)
        self._hits.append(result.label is Label.HIT)
        self._kept.append(result.kept)
        self._latency.append(done.seconds)
        self._ended.append(time.monotonic())

    def _count(self, result: ImageResult) -> None:
        self.n_kept += result.kept
        if result.label is None:
            self.n_failed += 1
            self.n_full += result.error == FULL
            self.failed.append(result)
        else:
            self.rate.add(result.label, result.kept)
            self._labels[result.label.key] += 1

    def classified_per_second(self) -> float:
        """The rate over the latest images; 0 where there is none."""
        if len(self._ended) < 2:
            return 0.0
        return (len(self._ended) - 1) / max(time.monotonic() - self._ended[0], 1e-9)

    def latency(self) -> tuple[float, float] | None:
        """Seconds from an image's coming to its result: median and 99th percentile."""
        if not self._latency:
            return None
        median, p99 = np.percentile(self._latency, [50, 99]).tolist()
        return median, p99

    def in_blocks(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Edges of blocks of time, min; of the classified images hits, kept, all."""
        now = time.monotonic() - self._start
        n = int(min(BLOCKS, max(1, now // SHORTEST)))
        edges = np.linspace(0, now, n + 1)
        came = np.frombuffer(self._came.tobytes())
        sizes, hits, kept = (
            np.histogram(came, edges, weights=weights)[0]
            for weights in (
                None,
                np.frombuffer(bytes(self._hits), np.uint8).astype(float),
                np.frombuffer(bytes(self._kept), np.uint8).astype(float),
            )
        )
        return edges / 60, hits, kept, sizes

    def as_json(
        self,
        state: str,
        behind: tuple[int, float],
        n_repeated: int,
        faults: dict[str, Any],
    ) -> dict[str, Any]:
        """The content of the status file.

        Args:
            state: running or ended.
            behind: Images that wait, and seconds that the first has waited.
            n_repeated: Images that came although they were done.
            faults: What else the source has to say of images that are not as they
                should be.
        """
        latency, recent = self.latency(), list(self._hits[-RECENT:])
        waiting, seconds = behind
        rate = self.rate
        return {
            "program": "dials.cnn_live",
            "version": __version__,
            "source": rate.source,
            "state": state,
            "started": self._started,
            "updated": _now(),
            "images": {
                "done": rate.images + self.n_failed,
                "classified": rate.images,
                **{label.key: self._labels[label.key] for label in Label},
                "kept": self.n_kept,
                "not_classified": self.n_failed,
                "queue_full": self.n_full,
                "repeated": n_repeated,
            },
            "hit_rate": {
                "percent": round(rate.percent, 2) if rate.images else None,
                "interval": as_percent(rate.interval),
            },
            "recent": {"images": len(recent), "hits": sum(recent)},
            "behind": {"images": waiting, "seconds": round(seconds, 3)},
            "classified_per_second": round(self.classified_per_second(), 2),
            "latency": latency
            and {"median": round(latency[0], 4), "p99": round(latency[1], 4)},
            "faults": faults,
            "latest_not_classified": [
                {"path": r.name.path, "frame": r.name.number, "error": r.error}
                for r in self.failed
            ],
        }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
