"""All MPI ranks; an error on one of them ends them all."""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any


def mpi_world() -> Any:
    """All MPI ranks, as mpi4py's communicator; an error on one of them ends them all.

    The real mpi4py is needed, and not libtbx.mpi4py, which stands in for it where it
    is missing: each rank would then take itself for the only one.

    Raises:
        ValueError: mpi4py is missing.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ValueError(
            f"mp.method=mpi needs mpi4py ({error}): install it into the Python that "
            "runs DIALS"
        ) from error
    show = sys.excepthook

    def show_and_abort(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        show(kind, error, traceback)
        sys.stderr.flush()
        # The others would wait for this rank's results for ever.
        MPI.COMM_WORLD.Abort(1)

    if MPI.COMM_WORLD.size > 1:
        sys.excepthook = show_and_abort
    return MPI.COMM_WORLD


@contextlib.contextmanager
def ending_together(world: Any) -> Iterator[None]:
    """A rank that leaves this early ends the others, after it has said why.

    They would wait for it for ever. What it says of a user's mistake, or of a signal,
    is shown when Python ends.
    """

    def abort() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        world.Abort(1)

    atexit.register(abort)
    yield
    atexit.unregister(abort)
