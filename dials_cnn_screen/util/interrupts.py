"""Ctrl-C and SIGTERM as one exception, so that a run can write what it has."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        signal: Which one.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)

    @property
    def exit_status(self) -> int:
        """What a shell expects: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal


@contextlib.contextmanager
def interruptible(message: str = "") -> Iterator[None]:
    """In here SIGINT and SIGTERM raise Interrupted, with this message.

    Nothing changes on another thread than the main one, which alone may set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number, message)

    # A shell's background job ignores Ctrl-C; so it stays.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
