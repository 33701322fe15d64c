"""Files of JSON lines that are appended to while others read them, or a kill comes.

One line is one JSON object. A process that is killed leaves at most the beginning of
its last line behind, which reading leaves out.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

# Seconds between two times that the lines are sent to the disk itself, where a power
# cut can't reach them; what a kill leaves alone is out after each line. By hand.
_SYNC = 1.0


class JsonLines(NamedTuple):
    """What is in a file of JSON lines.

    Attributes:
        lines: The JSON objects, in order.
        n_broken: Whole lines that are no JSON objects.
        n_bytes: Length of the whole lines; what follows is the beginning of one.
    """

    lines: list[dict[str, Any]]
    n_broken: int
    n_bytes: int


def read_json_lines(path: str | Path) -> JsonLines:
    """The lines of a file; the beginning of a line at its end is left out."""
    content = Path(path).read_bytes()
    n_bytes = content.rfind(b"\n") + 1
    lines, n_broken = [], 0
    for text in content[:n_bytes].splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            n_broken += 1
    return JsonLines(lines, n_broken, n_bytes)


class JsonLinesFile:
    """A file that lines are appended to; each is in the file when append returns."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or make it; "-" is the standard output.

        Raises:
            OSError: That can't be.
        """
        # Closed by close; a run appends for hours.
        self._file = open(os.dup(1) if path == "-" else path, "ab")  # noqa: SIM115
        self._synced = time.monotonic()

    def __enter__(self) -> JsonLinesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, line: dict[str, Any]) -> None:
        """Append a line; OSError where there is no room."""
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC:
            # Pipes and some disks can't.
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def cut(self, n_bytes: int) -> None:
        """Leave only the first n_bytes."""
        self._file.truncate(n_bytes)

    def lock(self) -> None:
        """Keep other processes from locking the file as long as it is open.

        Nothing happens where the system or the disk has no locks.

        Raises:
            BlockingIOError: Another process has locked it.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        self._file.close()
