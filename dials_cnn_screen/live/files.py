"""Images of files that appear in a folder, or of a file that grows."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from os.path import abspath
from pathlib import Path
from typing import Any

from dxtbx.format.Format import Format
from dxtbx.format.FormatMultiImage import FormatMultiImage
from dxtbx.format.Registry import get_format_class_for_file
from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.conversion import convert_to_stills, set_mask
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.live.arrivals import Unread
from dials_cnn_screen.live.order import describe_fault
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.input_files import check_claims
from dials_cnn_screen.util.input_words import (
    MASTER,
    belongs_to_master,
    leave_to_masters,
)

logger = logging.getLogger("dials.cnn_live")

# Seconds between two looks at the files. By hand.
POLL = 1.0
# A file that has not changed for so many seconds is taken for finished: what can't be
# read of it then never can. By hand.
SETTLED = 10.0

# Size in bytes and time of change, ns, of each file that an image file consists of.
Stamp = tuple[tuple[int, int], ...]


class NoFormatError(ValueError):
    """A file is no image that dxtbx can read."""


@dataclass(eq=False)
class WatchedFile:
    """What is known of an image file.

    Attributes:
        stamp: When it was last looked at.
        since: When that stamp was first seen, seconds of time.monotonic.
        tried: The stamp with which it was last opened.
        n_given: Images that were found so far.
        is_image: Whether dxtbx has a format for it.
        error: Why it could not be opened; None where it could.
        held: Images that could not be classified, to be given again.
        n_next: How many of them are given at once.
    """

    stamp: Stamp = ()
    since: float = 0.0
    tried: Stamp | None = None
    n_given: int = 0
    is_image: bool = True
    error: str | None = None
    held: list[Still] = field(default_factory=list)
    n_next: int = 1

    def is_settled(self) -> bool:
        """Whether the file is taken for finished."""
        return time.monotonic() - self.since > SETTLED


class FileSource:
    """The images of a folder or a file as they are written.

    Files are opened without locks and closed after each look, so that the program that
    writes them is not disturbed, and what is read is what is there. One that can't be
    opened, and an image that can't be classified, are tried again as long as the file
    changes.

    Attributes:
        waits: Images stay in their files.
        experiments: Of all images so far; those of stills refer to them.
    """

    waits = True

    def __init__(self, path: str, idle_time: float | None, mask: str | None) -> None:
        """Nothing is opened yet.

        Args:
            path: Of a folder, or of one file, which may not be there yet.
            idle_time: Seconds without a change of a file after which images ends; None:
                never.
            mask: Of dials.generate_mask, for all images; None for none.
        """
        self.experiments = ExperimentList()
        self._path, self._idle_time, self._mask = Path(path), idle_time, mask
        self._files: dict[str, WatchedFile] = {}
        self._lock = threading.RLock()
        self._ended = False
        self._source = Source()
        # What that has open.
        self._open_for: tuple[str, Stamp] = "", ()
        self._last_change = time.monotonic()

    def images(self, stop: threading.Event) -> Iterator[Still | Unread]:
        """The images as they come, until nothing came for idle_time or stop is set."""
        while not stop.is_set():
            for path in self._list_files():
                # Not within the lock: the caller may wait for room.
                yield from self._look(path)
            with self._lock:
                if self._is_idle():
                    self._ended = True
                    break
            stop.wait(POLL)
        yield from self._report_unreadable()

    def read(self, still: Still) -> Frame:
        """The frame of a still; raises as Source.read does."""
        with self._lock:
            file = still.name.path, self._files[still.name.path].stamp
            if file != self._open_for:
                # An open file shows what it was when it was opened.
                self._source = Source()
                self._open_for = file
            return self._source.read(still)

    def postpone(self, still: Still) -> bool:
        """Whether a still will be given again, since its file may still be written."""
        with self._lock:
            file = self._files[still.name.path]
            if self._ended or file.is_settled():
                return False
            file.held.append(still)
            file.n_next = 1
            return True

    def size(self, still: Still) -> int:
        """Stills are read when they are classified."""
        return 0

    def faults(self) -> dict[str, Any]:
        """What is wrong with files now; each may still be mended."""
        with self._lock:
            files = self._files.items()
            bad = [path for path, file in files if file.error and file.is_image]
            held = [s.name for file in self._files.values() for s in file.held]
        return {
            "files that can't be read yet": describe_fault(len(bad), bad),
            "images that can't be read yet": describe_fault(len(held), held),
        }

    def _list_files(self) -> list[str]:
        """The image files that there are, in order of their names."""
        if not self._path.is_dir():
            return [abspath(self._path)] if self._path.is_file() else []
        files = sorted(
            entry.path
            for entry in os.scandir(abspath(self._path))
            if entry.is_file() and not entry.name.startswith(".")
        )
        return leave_to_masters(files)

    def _look(self, path: str) -> list[Still | Unread]:
        """What a file gives: its new images, and those that are tried again."""
        with self._lock:
            file = self._files.setdefault(path, WatchedFile())
            stamp = _stamp(path)
            if stamp != file.stamp:
                file.stamp, file.since = stamp, time.monotonic()
                self._last_change = time.monotonic()
                if not _can_be_opened(path):
                    return []
            again: list[Still | Unread] = [*self._take_held(file)]
            if file.tried == stamp:
                return again
            return again + self._open(path, file)

    def _take_held(self, file: WatchedFile) -> list[Still]:
        """Images to be tried again: the first, then more while they can be read."""
        n = len(file.held) if file.is_settled() else file.n_next
        file.held.sort(key=lambda still: still.name.number)
        taken, file.held = file.held[:n], file.held[n:]
        file.n_next *= 2
        return taken

    def _open(self, path: str, file: WatchedFile) -> list[Still | Unread]:
        """The images of a file that are new."""
        file.tried, file.error = file.stamp, None
        try:
            experiments = self._read_experiments(path, file.n_given)
            if not len(experiments):
                return []
            experiments, _ = convert_to_stills(experiments)
            if self._mask is not None:
                set_mask(experiments, self._mask)
            stills = list_stills(experiments)
        except Exception as error:  # whatever dxtbx or a file format may raise
            file.error = one_line(error)
            file.is_image = not isinstance(error, NoFormatError)
            logger.debug("%s can't be read yet: %s", path, file.error)
            return []
        first = len(self.experiments)
        self.experiments.extend(experiments)
        file.n_given += len(stills)
        return [
            Still(s.imageset, s.position, s.name, [first + i for i in s.experiments])
            for s in stills
        ]

    def _read_experiments(self, path: str, first: int) -> ExperimentList:
        """Experiments of the images of a file from a number on, as of an .expt file.

        They hold no open file.
        """
        self._source, self._open_for = Source(), ("", ())
        check_claims(path)
        format_class = get_format_class_for_file(path)
        if format_class is None:
            raise NoFormatError("dxtbx has no format for this file")
        try:
            if issubclass(format_class, FormatMultiImage):
                _forget(format_class)
                n = format_class.get_instance(path).get_num_images()
                if n <= first:
                    return ExperimentList()
                imageset = format_class.get_imageset(
                    [path], single_file_indices=list(range(first, n))
                )
                found = ExperimentListFactory.from_imageset_and_crystal(imageset, None)
            elif first:
                return ExperimentList()
            else:
                found = ExperimentListFactory.from_filenames([path])
            return ExperimentListFactory.from_dict(found.to_dict(), check_format=False)
        finally:
            _forget(format_class)

    def _is_idle(self) -> bool:
        """Whether nothing changed for idle_time, and nothing is to be tried again."""
        if self._idle_time is None or any(f.held for f in self._files.values()):
            return False
        return time.monotonic() - self._last_change > self._idle_time

    def _report_unreadable(self) -> Iterator[Unread]:
        """At the end: an image for each file of which not all could be opened."""
        for path, file in self._files.items():
            if file.error is None:
                continue
            if not file.is_image:
                logger.info("%s is no image: left out", path)
                continue
            what = f"images from {file.n_given + 1} on" if file.n_given else "the file"
            name = ImageName(path, file.n_given + 1)
            yield Unread(name, f"{what} can't be read: {file.error}")


def _forget(format_class: type[Format]) -> None:
    """Let dxtbx open the next file of a format anew, and close the last."""
    format_class._current_instance_ = format_class._current_filename_ = None


def _stamp(path: str) -> Stamp:
    """That of a file; of a master file, that of its data files too."""
    files, match = [path], MASTER.fullmatch(path)
    if match:
        folder = os.scandir(os.path.dirname(path))
        files += [e.path for e in folder if belongs_to_master(e.path, {match[1]})]
    found = []
    for file in sorted(files):
        try:
            status = os.stat(file)
        except OSError:  # it went away
            continue
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _can_be_opened(path: str) -> bool:
    """Whether a file that has changed is HDF5, which may grow, or may be whole."""
    # Not above: h5py is not for those who only ask for help.
    import h5py

    try:
        return time.time() - os.stat(path).st_mtime > POLL or h5py.is_hdf5(path)
    except OSError:
        return False
