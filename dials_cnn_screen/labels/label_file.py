"""The annotation file of one expert: saved with every label, and locked meanwhile."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from dials_cnn_screen import __version__
from dials_cnn_screen.labels.annotation import (
    Annotation,
    read_annotations,
    write_annotations,
)
from dials_cnn_screen.labels.image_name import ImageName, NameIndex, short_names
from dials_cnn_screen.labels.label import Label, count_labels, format_counts
from dials_cnn_screen.labels.matching import find_annotated
from dials_cnn_screen.util.files import check_writable, replacing

logger = logging.getLogger("dials.cnn_annotate")


class LabelFile:
    """The labels of some images, in an annotation file that is always up to date.

    Notes on the session (the order of the images, contrast, zoom) are kept beside it,
    in a file of the same name with .json. Both files are written under another name and
    then renamed, so that a crash never leaves half a file. A lock keeps a second person
    from writing to the same file; it ends with the process.

    Attributes:
        path: The annotation file, symbolic links resolved.
        names: The images, with their full paths. Labels go by the index in this list.
        short_names: The same as they are written, with as few folders as tell the files
            apart.
        notes: The notes, as JSON.
    """

    def __init__(self, path: str | Path, names: Sequence[ImageName]) -> None:
        """Open the file for these images; an existing file is resumed.

        Raises:
            ValueError: The file can't be read or written, is in use, or has a label of
                another image or of one that could be several of these.
        """
        self.path = Path(path).resolve()
        self.names = list(names)
        self.short_names = short_names(self.names)
        check_writable(path)
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise ValueError(
                f"'{path}' is read-only; copy it, and continue in the copy"
            )
        self._notes_path = self.path.with_name(f"{self.path.name}.json")
        self._lock = self._take_lock(path)
        self._closed = False
        try:
            self._labels = self._read(path)
            self.notes = self._read_notes()
            self._write_notes(_describe_user())
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def labels(self) -> dict[int, Label]:
        """The labels of the labelled images, by index."""
        return dict(self._labels)

    def get(self, index: int) -> Label | None:
        """The label of an image; None where it has none."""
        return self._labels.get(index)

    def set(self, index: int, label: Label | None) -> None:
        """Label an image, or remove its label, and write the file.

        Raises:
            OSError: The file can't be written; the label then stays as it was.
        """
        changed = {**self._labels, index: label}
        with replacing(self.path) as unfinished:
            write_annotations(
                unfinished,
                (Annotation(n, changed.get(i)) for i, n in enumerate(self.short_names)),
            )
            _sync(unfinished)
        self._labels = {i: label for i, label in changed.items() if label is not None}

    def note(self, **notes: object) -> None:
        """Keep notes with the labels, as JSON."""
        if any(self.notes.get(key) != value for key, value in notes.items()):
            self.notes.update(notes)
            self._write_notes(self.notes["open"])

    def counts(self) -> dict[Label, int]:
        """Number of images of each class."""
        return count_labels(self._labels.values())

    def format_progress(self, order: Sequence[int] | None = None) -> str:
        """``3 of 6 images labelled (0 Hit, 1 Maybe, 2 Miss), 3 left``.

        Args:
            order: Indices of the images that are to be labelled; None for all.
        """
        n_images, n_labelled = len(self.names), len(self._labels)
        wanted = range(n_images) if order is None else order
        left = sum(i not in self._labels for i in wanted)
        return (
            f"{n_labelled} of {n_images} images labelled "
            f"({format_counts(self.counts())}), {left} left"
        )

    def close(self) -> None:
        """Write the notes and release the file."""
        if not self._closed:
            self._closed = True
            try:
                self._write_notes(None)
            finally:
                self._release()

    def _release(self) -> None:
        # Deleted before it is released, or two processes could hold locks on two files
        # of the same name.
        with contextlib.suppress(OSError):
            os.unlink(self._lock.lock_file)
        self._lock.release()

    def _take_lock(self, path: str | Path) -> FileLock:
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            user = self._read_notes().get("open") or "another program"
            raise ValueError(
                f"'{path}' is in use by {user}; choose another file, or wait"
            ) from None
        except (OSError, NotImplementedError) as error:
            logger.warning(
                "%s could not be locked (%s); make sure that nobody else writes to it",
                path,
                error,
            )
        return lock

    def _read(self, path: str | Path) -> dict[int, Label]:
        if not self.path.exists():
            return {}
        labels, others = read_labels(path, self.names)
        if others:
            raise ValueError(
                f"'{path}' has labels of other images: {others[0].name} is not among "
                f"these {len(self.names)}; choose another file"
            )
        return labels

    def _read_notes(self) -> dict[str, Any]:
        try:
            notes = json.loads(self._notes_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    def _write_notes(self, user: str | None) -> None:
        self.notes.update(program="dials.cnn_annotate", version=__version__, open=user)
        with replacing(self._notes_path) as unfinished:
            Path(unfinished).write_text(
                json.dumps(self.notes, indent=1) + "\n", encoding="utf-8"
            )


def read_labels(
    path: str | Path, names: Sequence[ImageName]
) -> tuple[dict[int, Label], list[Annotation]]:
    """The labels that an annotation file has of these images.

    Returns:
        The labels by index into names, and the labelled lines of other images.

    Raises:
        ValueError: The file can't be read, a labelled line could be of several of the
            images, or two are of the same one.
    """
    index = NameIndex(names)
    labels: dict[int, Label] = {}
    others: list[Annotation] = []
    for a in read_annotations(path):
        if a.label is None:
            continue
        i = find_annotated(a, index)
        if i is None:
            others.append(a)
        elif i in labels:
            raise ValueError(
                f"{a.where}: {a.name} is labelled twice; keep one of the two lines"
            )
        else:
            labels[i] = a.label
    return labels, others


def _describe_user() -> str:
    """Who has the file open, for others to read."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user, as may be in a container
        user = f"user {os.getuid()}"
    since = time.strftime("%d %b %H:%M")
    return f"{user} on {socket.gethostname()}, process {os.getpid()}, since {since}"


def _sync(path: str) -> None:
    """Force a file to disk, so that it survives a loss of power."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
