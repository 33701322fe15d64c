"""Work shared out among processes, ending cleanly whatever happens to one of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any


def map_on_workers(
    function: Callable[[Any], Any],
    items: Sequence,
    nproc: int,
    start: Callable[..., None],
    arguments: tuple = (),
    *,
    chunk: int,
    fork: bool,
) -> Iterator[Any]:
    """function(item) for each of the items, in order, on nproc processes.

    start(*arguments) is called first in each process. chunk: items that a process gets
    at once, at the most. fork: begin the processes as copies of this one, which is
    quick, where the system can.

    Raises ChildProcessError if a process dies, for instance for want of memory.
    """
    method = "fork" if fork and sys.platform == "linux" else "spawn"
    executor = ProcessPoolExecutor(
        nproc, multiprocessing.get_context(method), _start, (start, *arguments)
    )
    with executor:
        try:
            # Few enough to share evenly.
            chunk = max(1, min(chunk, len(items) // (4 * nproc)))
            with _interrupts_blocked():
                answers = executor.map(function, items, chunksize=chunk)
            yield from answers
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process died, perhaps for want of memory; try again with a smaller "
                "mp.nproc"
            ) from error
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C from processes started in here; this one gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(start: Callable[..., None], *arguments: Any) -> None:
    # Ctrl-C is for the parent to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    """End this process when its parent is killed, not wait for it for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
