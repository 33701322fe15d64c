"""The label file of one expert, on disk with every label, and locked meanwhile."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from dials_cnn_screen import __version__
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.annotation import (
    Annotation,
    read_annotations,
    write_annotations,
)
from dials_cnn_screen.util.files import check_writable, replacing

logger = logging.getLogger("dials.cnn_annotate")

# File of the image, its number there from 1.
Name = tuple[str, int]


class LabelFile:
    """The labels of some images in a file of the deposited form, kept up to date.

    Beside it, under the same name with .json, stand the notes: how the images were
    looked at. Both are written anew and renamed, so that a crash never leaves half a
    file. A lock keeps a second person from writing to the same file; it ends with the
    process.
    """

    def __init__(self, path: str | Path, names: Sequence[Name]) -> None:
        """Open the file for the images of these names; one that exists is resumed.

        Raises ValueError where it can't be written, somebody else has it open, or it
        has labels of other images; OSError where it can't be read.
        """
        self.path = Path(path).resolve()
        self.names = list(names)
        check_writable(path)
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise ValueError(f"'{path}' is read-only: copy it, and go on in the copy")
        self._notes_path = self.path.with_name(f"{self.path.name}.json")
        self._lock = self._take_lock(path)
        self._closed = False
        try:
            self._labels = self._read(path)
            self.notes = self._read_notes()
            self._write_notes(_holder())
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

    def get(self, name: Name) -> Label | None:
        """The label of an image, or None."""
        return self._labels.get(name)

    def set(self, name: Name, label: Label | None) -> None:
        """Give an image a label, or none, and write the file.

        Raises OSError where that fails; the label then stays as it was.
        """
        changed = {**self._labels, name: label}
        if label is None:
            del changed[name]
        with replacing(self.path) as unfinished:
            write_annotations(
                unfinished, (Annotation(*n, changed.get(n)) for n in self.names)
            )
            _to_disk(unfinished)
        self._labels = changed

    def note(self, **notes: object) -> None:
        """Keep something with the labels, as JSON."""
        if any(self.notes.get(key) != value for key, value in notes.items()):
            self.notes.update(notes)
            self._write_notes(self.notes["open"])

    def counts(self) -> Counter[Label]:
        """How many images have each label."""
        return Counter(self._labels.values())

    def close(self) -> None:
        """Write the notes and let others have the file."""
        if not self._closed:
            self._closed = True
            try:
                self._write_notes(None)
            finally:
                self._release()

    def _release(self) -> None:
        # Away before it is free, or two others could hold what has the same name.
        with contextlib.suppress(OSError):
            os.unlink(self._lock.lock_file)
        self._lock.release()

    def _take_lock(self, path: str | Path) -> FileLock:
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = self._read_notes().get("open") or "another program"
            raise ValueError(
                f"'{path}' is open already: {holder}; give another file, or wait"
            ) from None
        except (OSError, NotImplementedError) as problem:
            logger.warning(
                "%s can't be locked (%s): see to it that nobody else labels into it",
                path,
                problem,
            )
        return lock

    def _read(self, path: str | Path) -> dict[Name, Label]:
        if not self.path.exists():
            return {}
        labels = {
            (a.file, a.frame): a.label
            for a in read_annotations(self.path)
            if a.label is not None
        }
        known = set(self.names)
        strange = [name for name in labels if name not in known]
        if strange:
            raise ValueError(
                f"'{path}' has labels of other images, {tell_name(strange[0])} is not "
                f"among these {len(self.names)}: give another file"
            )
        return labels

    def _read_notes(self) -> dict:
        try:
            notes = json.loads(self._notes_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    def _write_notes(self, holder: str | None) -> None:
        self.notes.update(
            program="dials.cnn_annotate", version=__version__, open=holder
        )
        with replacing(self._notes_path) as unfinished:
            Path(unfinished).write_text(
                json.dumps(self.notes, indent=1) + "\n", encoding="utf-8"
            )


def name_images(images: Sequence[tuple[str, int]]) -> list[Name]:
    """What images, by path and number in the file, are called in label files.

    The file's name, and where files in several folders have one name, as many folders
    before it as tell them apart.
    """
    paths = dict.fromkeys(Path(path) for path, _ in images)
    named: dict[str, list[Path]] = {}
    for path in paths:
        named.setdefault(path.name, []).append(path)
    short = {}
    for alike in named.values():
        n = 1
        while len({path.parts[-n:] for path in alike}) < len(alike):
            n += 1
        short |= {path: str(Path(*path.parts[-n:])) for path in alike}
    return [(short[Path(path)], number) for path, number in images]


def tell_name(name: Name) -> str:
    """A name as it stands in label files: ``r0027_2000.h5 [1]``."""
    return f"{name[0]} [{name[1]}]"


def _holder() -> str:
    """Who has the file open, for others to read."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user, as may be in a container
        user = f"user {os.getuid()}"
    since = time.strftime("%d %b %H:%M")
    return f"{user} on {socket.gethostname()}, process {os.getpid()}, since {since}"


def _to_disk(path: str) -> None:
    """See to it that a file outlives a loss of power too."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
