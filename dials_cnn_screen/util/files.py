"""Writing files so that no half-written one is ever seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

# Within replacing_together: what is written, and where it belongs; else None.
_together: ContextVar[list[tuple[str, Path]] | None] = ContextVar(
    "together", default=None
)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Give a temporary name beside path to write to; renamed to path on success.

    The ending stays the same, since some writers choose their format by it. On an
    error the temporary file is removed and an older file at path stays as it was; that
    of a process that was killed is removed by the next one that writes to path. What is
    no regular file, such as /dev/null, is written to as it is: a file renamed to it
    would take its place.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield str(path)
        return
    _remove_left(path)
    host = socket.gethostname()
    handle, unfinished = tempfile.mkstemp(
        dir=path.parent,
        prefix=f".{path.stem}.{os.getpid()}@{host}.",
        suffix=path.suffix,
    )
    os.close(handle)
    try:
        yield unfinished
        os.chmod(unfinished, 0o666 & ~_umask())
        written = _together.get()
        if written is None:
            os.replace(unfinished, path)
        else:
            written.append((unfinished, path))
    except BaseException:
        _unlink(unfinished)
        raise


@contextlib.contextmanager
def replacing_together() -> Iterator[None]:
    """Put all files that replacing writes in here in place at the end, or none.

    So outputs of different runs never lie side by side.
    """
    written: list[tuple[str, Path]] = []
    outside = _together.set(written)
    try:
        yield
        for unfinished, path in written:
            os.replace(unfinished, path)
    finally:
        _together.reset(outside)
        for unfinished, _ in written:
            _unlink(unfinished)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_left(path: Path) -> None:
    """Remove what processes of this machine that were killed left for path."""
    start, end = f".{path.stem}.", f"@{socket.gethostname()}."
    for name in os.listdir(path.parent):
        pid, found, _ = name.removeprefix(start).partition(end)
        is_ours = name.startswith(start) and name.endswith(path.suffix) and found
        if is_ours and pid.isdigit() and not is_running(int(pid)):
            _unlink(str(path.parent / name))


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if os.name == "nt":  # there os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        return True
    return True


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


def check_file_room(path: str | Path, n_bytes: int) -> None:
    """Raise ValueError where a file can't have n_bytes; what is in it is lost.

    The disk may be full, or there is a quota or a limit to the size of files. HDF5
    ends the process with a segmentation fault when it meets one of them.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        raise ValueError(
            f"there is no room for a file of {n_bytes / 1e9:.3g} GB in "
            f"'{Path(path).resolve().parent}': {error.strerror}"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
