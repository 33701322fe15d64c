"""A progress bar on a terminal, and nothing off it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

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
    close = getattr(results, "close", lambda: None)
    with contextlib.ExitStack() as stack:
        stack.callback(close)
        yield from make_bar(
            results, desc=title, total=total, unit=unit, miniters=1, disable=None
        )


def make_bar(*args: Any, **options: Any) -> tqdm:
    """A bar of tqdm without its thread: it would be there as processes are forked."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    return tqdm(*args, **options)
