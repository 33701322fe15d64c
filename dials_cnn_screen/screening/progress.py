"""How far a run is: a bar on a terminal, a line now and then off it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.util.intervals import format_percent
from dials_cnn_screen.util.progress import make_bar

logger = logging.getLogger("dials.cnn_screen")

# Seconds between two lines, and images that the recent hit rate is of. By hand.
EVERY = 30.0
RECENT = 500


class Progress:
    """What is to be said while a run goes on."""

    def __init__(self, total: int, done: list[ImageResult] | None = None) -> None:
        """The clock starts.

        Args:
            total: Images of the run.
            done: Results of the run that is resumed.
        """
        self._total = total
        self._n, self._n_hits = 0, 0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        for result in done or []:
            self.add(result)
        self._n_before, self._start = self._n, time.monotonic()

    def add(self, result: ImageResult) -> None:
        """One image more is done."""
        is_hit = result.label is Label.HIT
        self._n += 1
        self._n_hits += is_hit
        self._recent.append(is_hit)

    def hit_rates(self) -> str:
        """The hit rate of the run with its 95% interval, and of the last images."""
        if not self._n:
            return "hits none"
        text = f"hits {format_percent(self._n_hits, self._n)}%"
        if self._n > len(self._recent):
            recent = format_percent(sum(self._recent), len(self._recent))
            text += f", of the last {len(self._recent)} {recent}%"
        return text

    def __str__(self) -> str:
        """Images done, images/s, hit rates and time left, in one line."""
        rate = (self._n - self._n_before) / max(time.monotonic() - self._start, 1e-9)
        left = (self._total - self._n) / rate if rate else 0.0
        return (
            f"{self._n} of {self._total} images, {rate:.1f} images/s, "
            f"{self.hit_rates()}, {format_seconds(left)} left"
        )


def follow(
    results: Generator[tuple[int, ImageResult], None, None]
    | Iterator[tuple[int, ImageResult]],
    total: int,
    done: list[ImageResult] | None = None,
) -> Iterator[tuple[int, ImageResult]]:
    """The results as they come, with a bar on a terminal or lines in the log.

    They are closed at once when interrupted, so that no process goes on with the rest.

    Args:
        results: Places and results.
        total: Images of the run.
        done: Results of the run that is resumed.
    """
    progress = Progress(total, done)
    said = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(getattr(results, "close", lambda: None))
        bar = stack.enter_context(
            make_bar(
                desc="Screening",
                initial=len(done or []),
                total=total,
                unit="image",
                disable=not sys.stderr.isatty(),
            )
        )
        for place, result in results:
            progress.add(result)
            if bar.disable:
                if time.monotonic() - said > EVERY:
                    said = time.monotonic()
                    logger.info("%s", str(progress))
            else:
                bar.set_postfix_str(progress.hit_rates(), refresh=False)
                bar.update()
            yield place, result


def format_seconds(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
