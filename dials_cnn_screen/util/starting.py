"""Ctrl-C while a program imports what it needs: one line instead of a traceback.

DIALS, torch and numba take seconds. A library that is interrupted while it is imported
may raise anything, so the process ends at once; nothing is written by then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType


def is_program(file: str) -> bool:
    """Whether this process runs a program, and has not only imported its file."""
    name = Path(sys.argv[0]).name.removesuffix(".py")
    return name.rpartition(".")[2] == Path(file).stem


def end_on_interrupt() -> None:
    """Until raise_on_interrupt, end on Ctrl-C in one line, with status 130."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.stderr.write("Sorry: interrupted; no result was written\n")
    sys.stderr.flush()
    os._exit(130)
