"""Work shared out among processes, ending cleanly whatever happens to one of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from dials_cnn_screen.util.threads import use_threads

State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """The parameters of mp.

    Attributes:
        nproc: Number of processes, or Auto.
        method: multiprocessing or mpi; only the programs that can use MPI have it.
    """

    nproc: Any
    method: str = "multiprocessing"


def count_processes(nproc: Any, n_items: int) -> int:
    """Processes for so many items; Auto or None: one for each idle processor."""
    from libtbx.easy_mp import get_processes

    return max(1, min(get_processes(nproc), n_items))


def map_on_workers(
    work: Callable[[State, Item], Result],
    items: Sequence[Item],
    nproc: int,
    start: Callable[..., State],
    arguments: tuple = (),
    *,
    chunk: int = 16,
    fork: bool = True,
) -> Iterator[Result]:
    """``work(state, item)`` for each of the items, in order, on nproc processes.

    Close the iterator to stop before the end; no process then goes on with the rest.

    Args:
        work: What is done with each item; a function at the top of a module.
        items: Each process has them all; what is sent is their places.
        nproc: With 1 the work is done in this process.
        start: ``start(*arguments)`` makes the state that each process keeps.
        arguments: Of start.
        chunk: Items that a process gets at once, at most.
        fork: Begin the processes as copies of this one, which is quick, where the
            system can and no other thread of Python runs. False where threads of torch
            or a GPU may be at work: a copy has their locks, and not them.

    Raises:
        ChildProcessError: A process died, for instance for want of memory.
    """
    if nproc == 1 or len(items) < 2:
        state = start(*arguments)
        yield from (work(state, item) for item in items)
        return
    fork = fork and sys.platform == "linux" and threading.active_count() == 1
    if fork:
        _end_idle_threads()
    executor = ProcessPoolExecutor(
        nproc,
        multiprocessing.get_context("fork" if fork else "spawn"),
        _start_worker,
        (work, items, start, arguments),
    )
    with executor:
        try:
            # Few enough to share evenly.
            chunk = max(1, min(chunk, len(items) // (4 * nproc)))
            with _interrupts_blocked():
                results = executor.map(_do, range(len(items)), chunksize=chunk)
            yield from results
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process died, perhaps for want of memory; try again with a smaller "
                "mp.nproc"
            ) from error
        except BaseException:  # the caller's end of it, Ctrl-C among others
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _end_idle_threads() -> None:
    """Leave one thread in a process that is to be forked.

    pandas, which DIALS loads, has threads of numexpr wait for work that never comes.
    OpenBLAS, numpy's, ends its own before a fork.
    """
    if "numexpr" in sys.modules:
        sys.modules["numexpr"].set_num_threads(1)


# What a worker process keeps from one item to the next.
_worker: dict[str, Any] = {}


def _start_worker(
    work: Callable[[Any, Any], Any],
    items: Sequence,
    start: Callable[..., Any],
    arguments: tuple,
) -> None:
    # Ctrl-C is for the parent to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker ends at once, whatever its parent does then.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.update(work=work, items=items, state=start(*arguments))
    if "torch" in sys.modules:
        use_threads(1)  # threads in each of several processes would only compete


def _do(place: int) -> Any:
    return _worker["work"](_worker["state"], _worker["items"][place])


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


def _end_with_parent() -> None:
    """End this process when its parent is killed, not wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# Whether processes forked from this one end with it.
_forked: dict[str, Any] = {"end": False, "parent": 0}


@contextlib.contextmanager
def forks_ending_with_parent() -> Iterator[None]:
    """Let the processes that other code forks in here end with this one.

    A process that is killed can't end the others itself: so each of them looks, twice a
    second, whether its parent is still the one that it had.
    """
    if hasattr(os, "register_at_fork") and not _forked["parent"]:
        os.register_at_fork(before=_note_parent, after_in_child=_watch_parent)
        _note_parent()
    _forked["end"] = True
    try:
        yield
    finally:
        _forked["end"] = False


def _note_parent() -> None:
    _forked["parent"] = os.getpid()


def _watch_parent() -> None:
    if _forked["end"]:
        threading.Thread(
            target=_end_without, args=(_forked["parent"],), daemon=True
        ).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
