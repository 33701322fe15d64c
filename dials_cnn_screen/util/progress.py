"""A progress bar on a terminal, and nothing off it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TypeVar

Result = TypeVar("Result")


def track(
    results: Generator[Result, None, None] | Iterator[Result],
    title: str,
    total: int,
    unit: str = "image",
) -> Iterator[Result]:
    """The results as they come, with a progress bar.

    They are closed at once when interrupted, so that no process goes on with the rest.
    """
    from tqdm import tqdm

    # A thread that looks after the bar would be there as processes are forked.
    tqdm.monitor_interval = 0
    close = getattr(results, "close", lambda: None)
    with contextlib.ExitStack() as stack:
        stack.callback(close)
        yield from tqdm(
            results, desc=title, total=total, unit=unit, miniters=1, disable=None
        )
