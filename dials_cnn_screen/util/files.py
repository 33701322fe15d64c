"""Writing files so that no half-written one is ever seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Give a temporary name beside path to write to; renamed to path on success.

    The ending stays the same, since some writers choose their format by it. On an
    error the temporary file is removed and an older file at path stays as it was. What
    is no regular file, such as /dev/null, is written to as it is: a file renamed to it
    would take its place.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield str(path)
        return
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
    if Path(path).exists() and not Path(path).is_file():
        if not os.access(path, os.W_OK):
            raise ValueError(f"'{path}' can't be written: Permission denied")
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"'{path}' can't be written: {error.strerror}") from error


def check_outputs(*paths: str | Path | None, inputs: Iterable[str | Path] = ()) -> None:
    """Raise ValueError for an output that can't be written, or would destroy something.

    Args:
        paths: Outputs; None for one that is switched off.
        inputs: Files that are read.

    Raises:
        ValueError: An output can't be written, is one of the inputs, or has the name of
            another one.
    """
    wanted = [Path(path).resolve() for path in paths if path is not None]
    read = {Path(path).resolve() for path in inputs}
    for path in wanted:
        if path in read:
            raise ValueError(
                f"'{path}' is both read and written; give the output another name"
            )
        check_writable(path)
        is_file = path.is_file() or not path.exists()
        if is_file and wanted.count(path) > 1:
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
