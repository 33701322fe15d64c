"""The record of a run, cnn_screen.jsonl: each result as it comes, to go on from.

The first line says of what run it is: the model, the decision, the images. Then comes a
line for each image, in the form of cnn_screen.json, in the order in which they were
classified; "index" is the image's place in the input. A run that is resumed takes the
results that are there and appends the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dials_cnn_screen import __version__
from dials_cnn_screen.labels.image_name import ImageName, short_names
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    image_as_json,
    image_from_json,
)
from dials_cnn_screen.util.json_lines import JsonLinesFile, read_json_lines

logger = logging.getLogger("dials.cnn_screen")

# In place of a record that was not finished and not resumed: its name with this.
KEPT_AS = ".unfinished"
_SHOWN = 3  # differences in a message of one line


@dataclass(frozen=True)
class RunIdentity:
    """What a run is of; one is resumed only by another that is the same.

    Attributes:
        model, decision: That classify the images.
        names: Of the images, in order.
        files: Size in bytes and time of change of each file; None where it is gone.
        geometry: Of images/stills.py's digest_geometry.
        source: Where the images of a live run come from; None of any other. They are
            not known before they come: names and files are empty.
    """

    model: ModelSummary
    decision: Decision
    names: list[ImageName]
    files: dict[str, list[int] | None]
    geometry: str
    source: str | None = None

    @classmethod
    def of(
        cls,
        model: ModelSummary,
        decision: Decision,
        names: Sequence[ImageName],
        geometry: str,
    ) -> RunIdentity:
        """That of a run, with its files as they are now."""
        paths = dict.fromkeys(name.path for name in names)
        files = {path: _stamp(path) for path in paths}
        return cls(model, decision, list(names), files, geometry)

    @classmethod
    def of_live(
        cls, model: ModelSummary, decision: Decision, source: str
    ) -> RunIdentity:
        """That of a live run, whose geometry is not known before its images come."""
        return cls(model, decision, [], {}, "", source)

    def as_json(self) -> dict[str, Any]:
        """The first line of a record."""
        live = {} if self.source is None else {"source": self.source}
        names = hashlib.sha256("\n".join(map(str, self.names)).encode())
        return {
            "program": "dials.cnn_screen",
            "version": __version__,
            "model": asdict(self.model),
            "decision": asdict(self.decision),
            **live,
            "images": {"number": len(self.names), "sha256": names.hexdigest()},
            "geometry": self.geometry,
            "files": self.files,
        }


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


class RunRecord:
    """The record of a run that is written.

    Attributes:
        done: The results by the images' places in the input; first those of the run
            that is resumed, if any.
    """

    def __init__(
        self,
        path: str | Path | None,
        identity: RunIdentity,
        resume: bool,
        lines: str | None = None,
    ) -> None:
        """Begin or resume a record.

        A record that is not finished and not resumed is kept under another name.

        Args:
            path: None: nothing is written.
            identity: Of the run.
            resume: Go on with the record at path, if there is one.
            lines: Another file or pipe for the lines of images; "-" is the standard
                output.

        Raises:
            ValueError: The record at path is that of another run, is being written, or
                is to be resumed without a path.
            OSError: It can't be written.
        """
        if path is None and resume:
            raise ValueError(
                "resume=True needs the record; leave out output.record=None"
            )
        self.done: dict[int, ImageResult] = {}
        self._display = short_names(identity.names)
        self._lines = None if lines is None else _open_empty(lines)
        self._file = None if path is None else _open_locked(path)
        if path is None or self._file is None:
            return
        # As it is when it is read.
        head = json.loads(json.dumps(identity.as_json()))
        if resume and Path(path).is_file():
            try:
                self.done = _read(path, head, identity, self._file)
            except ValueError:
                self.close()
                raise
        elif Path(path).is_file():
            self._file = _put_aside(path, self._file)
        if not Path(path).stat().st_size:
            self._file.append(head)

    def add(self, index: int, result: ImageResult) -> None:
        """Write the result for the image at this place in the input."""
        self.done[index] = result
        display = self._display[index] if self._display else result.name
        line = image_as_json(index, result, display)
        line["seconds"] = [round(seconds, 6) for seconds in result.seconds]
        if self._file is not None:
            self._file.append(line)
        if self._lines is not None:
            try:
                self._lines.append(line)
            except BrokenPipeError:
                logger.warning("nobody reads output.lines any more; the run goes on")
                with contextlib.suppress(BrokenPipeError):
                    self._lines.close()
                self._lines = None

    def results(self) -> list[ImageResult]:
        """All results so far, in the order of the input."""
        return [self.done[index] for index in sorted(self.done)]

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._lines):
            if file is not None:
                file.close()


def _open_empty(path: str) -> JsonLinesFile:
    """A file or pipe, to append to; an older file is emptied."""
    file = JsonLinesFile(path)
    if Path(path).is_file():
        file.cut(0)
    return file


def _open_locked(path: str | Path) -> JsonLinesFile:
    """The file, to append to; ValueError where another process writes it."""
    file = JsonLinesFile(path)
    try:
        file.lock()
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"another dials.cnn_screen is writing {path}; wait for its end, or give "
            "output.record another name"
        ) from None
    return file


def _read(
    path: str | Path,
    head: dict[str, Any],
    identity: RunIdentity,
    file: JsonLinesFile,
) -> dict[int, ImageResult]:
    """The results of a record; what is not a whole line is cut off the file.

    Images that could not be classified are not among them, since they are tried again;
    those of a live run are, since they may be gone.

    Args:
        path: Of the record.
        head: The first line that it has to have.
        identity: Of the run.
        file: The same file, to append to.

    Raises:
        ValueError: It is no record, or that of another run.
    """
    content = read_json_lines(path)
    if not content.lines and not content.n_broken:
        file.cut(0)
        logger.info("%s is empty: nothing to resume", path)
        return {}
    if not content.lines or content.lines[0].get("program") != head["program"]:
        raise ValueError(
            f"{path} is no record of dials.cnn_screen; leave out resume=True, or give "
            "output.record another name"
        )
    differences = find_differences(content.lines[0], head)
    if differences:
        raise ValueError(
            f"{path} is the record of another run: {'; '.join(differences[:_SHOWN])}. "
            "Give the same input to resume it, or leave out resume=True to start again"
        )
    done, n_broken, names = {}, content.n_broken, identity.names
    is_live = identity.source is not None
    for line in content.lines[1:]:
        try:
            result, index = image_from_json(line), int(line["index"])
            if index < 0 or not (is_live or names[index] == result.name):
                raise ValueError("it is another image")
        except (ValueError, KeyError, TypeError, IndexError, OverflowError):
            n_broken += 1
            continue
        if result.prediction is not None or is_live:
            done[index] = result
    if n_broken:
        logger.warning(
            "%d lines of %s can't be read; their images are classified again",
            n_broken,
            path,
        )
    file.cut(content.n_bytes)
    of_all = "" if is_live else f" of {len(names)}"
    logger.info("%s has %d%s images; resuming", path, len(done), of_all)
    return done


def find_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is different in the first lines of two records, a phrase each."""
    found = []
    if before.get("version") != now["version"]:
        found.append(f"version {before.get('version')}, now {now['version']}")
    for scope in ("model", "decision"):
        then = before.get(scope) or {}
        for key, value in now[scope].items():
            if then.get(key) != value:
                found.append(f"{scope}.{key}={then.get(key)}, now {value}")
    if before.get("source") != now.get("source"):
        found.append(f"source {before.get('source')}, now {now.get('source')}")
    files, files_now = before.get("files") or {}, now["files"]
    found += [f"without {path}" for path in files_now if path not in files]
    found += [f"with {path}" for path in files if path not in files_now]
    found += [
        f"{path} has changed since"
        for path, stamp in files_now.items()
        if path in files and files[path] != stamp
    ]
    images, images_now = before.get("images") or {}, now["images"]
    if images != images_now and not found:
        number, number_now = images.get("number"), images_now["number"]
        is_number = number != number_now
        found.append(
            f"of {number} images, now {number_now}"
            if is_number
            else "of other images in the same files, or in another order"
        )
    if before.get("geometry") != now["geometry"]:
        found.append("with another detector geometry or mask")
    return found


def _put_aside(path: str | Path, file: JsonLinesFile) -> JsonLinesFile:
    """An empty file in place of an older one, which is kept if it is unfinished.

    That of a live run always is: the images of a stream do not come again.
    """
    content = read_json_lines(path)
    head = content.lines[0] if content.lines else {}
    number = (head.get("images") or {}).get("number", 0)
    done = {line.get("index") for line in content.lines[1:]}
    is_live = head.get("source") is not None
    is_left = bool(done) and (is_live or len(done) < number)
    if head.get("program") != "dials.cnn_screen" or not is_left:
        file.cut(0)
        return file
    kept = Path(path).with_suffix(f"{KEPT_AS}{Path(path).suffix}")
    file.close()
    os.replace(path, kept)
    of_all = "" if is_live else f" of {number}"
    logger.warning(
        "%s is of a run that ended after %d%s images; it is kept as %s. With "
        "resume=True a run goes on from its record",
        path,
        len(done),
        of_all,
        kept,
    )
    return _open_locked(path)
