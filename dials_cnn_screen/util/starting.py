"""While a program imports what it needs: quickly, and Ctrl-C ends it in one line.

DIALS, torch and numba take seconds. A library that is interrupted while it is imported
may raise anything, so the process ends at once; nothing is written by then.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import FrameType
from typing import Any


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


def import_dxtbx() -> None:
    """Import dxtbx without sklearn, and leave pandas for when something uses it.

    dxtbx takes sklearn for the pictures of dials.image_viewer, and does without where
    there is none; DIALS takes pandas to compare tables of reflections. The two take a
    third of the time until the first image is read.
    """
    _import_when_used("pandas")
    # A dxtbx that can't do without sklearn is imported later, with it.
    with contextlib.suppress(ImportError), _hidden("sklearn"):
        importlib.import_module("dxtbx.model")


def _import_when_used(name: str) -> None:
    """Put an empty module in place of one until it is asked for what is in it."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        return

    def find(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        module = importlib.import_module(name)
        vars(stand_in).update(vars(module))
        return getattr(module, attribute)

    stand_in = module_from_spec(spec)
    del stand_in.__path__  # asked for when a module of the package is imported
    vars(stand_in)["__getattr__"] = find
    sys.modules[name] = stand_in


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Within, a module that was not imported before can't be."""
    known = name in sys.modules
    if not known:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not known:
            del sys.modules[name]
