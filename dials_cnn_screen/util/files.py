"""Writing files so that no half-written one is ever seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Give a temporary name beside path to write to; renamed to path on success.

    The ending stays the same, since some writers choose their format by it. On an
    error the temporary file is taken away and an older file at path stays as it was.
    """
    path = Path(path)
    handle, unfinished = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
    )
    os.close(handle)
    try:
        yield unfinished
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def check_writable(path: str | Path) -> None:
    """Raise ValueError where a file can't be written, before hours of work for it."""
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise ValueError(f"'{path}' can't be written: there is no folder '{folder}'")
    if Path(path).is_dir():
        raise ValueError(f"'{path}' can't be written: it is a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"'{path}' can't be written: {error.strerror}") from error


def check_outputs(*paths: str | Path | None) -> None:
    """Raise ValueError where a file can't be written, or would be written twice."""
    wanted = [Path(path).resolve() for path in paths if path is not None]
    for path in wanted:
        check_writable(path)
        if wanted.count(path) > 1:
            raise ValueError(f"'{path}' is the name of two outputs; rename one of them")


def check_room(folder: str | Path, n_bytes: int, remedy: str) -> None:
    """Raise ValueError where a folder has no room for n_bytes of prepared frames.

    remedy: what to do then. A memory-mapped file on a full disk ends the process
    without a word.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ValueError(
            f"prepared frames need {n_bytes / 1e9:.1f} GB in "
            f"'{Path(folder).resolve()}', and {free / 1e9:.1f} GB are free; {remedy}"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
