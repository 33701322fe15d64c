"""The record of a run of the veto: what each of its processes did, line by line.

A process writes to a part of its own as soon as something is known, so that little is
lost when it is killed. The names of the parts carry the identity of the run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.results import (
    ImageResult,
    image_as_json,
    image_from_json,
)
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.files import is_running
from dials_cnn_screen.util.json_lines import JsonLinesFile, read_json_lines

_PART = ".cnn_screen_{run}_{process}.jsonl"


@dataclass
class Parts:
    """What the parts of a run say.

    Attributes:
        classified: The result for each image that was classified, or could not be.
        failed: Why images could not be processed.
        lost: Images of which DIALS had not written its files when their process ended.
        stopped: Why processes ended early, where they could say so.
    """

    classified: dict[ImageName, ImageResult] = field(default_factory=dict)
    failed: dict[ImageName, str] = field(default_factory=dict)
    lost: set[ImageName] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """The record of one run.

    Attributes:
        folder: Of the parts.
        run: The run's identity: process and machine that began it, and a random number.
    """

    folder: Path
    run: str

    @classmethod
    def new(cls, folder: Path) -> Record:
        """That of a run that this process begins."""
        return cls(folder, f"{_this_process()}_{uuid.uuid4().hex[:8]}")

    def classified(self, result: ImageResult) -> None:
        """Write the result for an image."""
        self._write({"image": image_as_json(0, result, result.name)})

    def failed(self, name: ImageName, error: BaseException) -> None:
        """Write that an image could not be processed."""
        failed = {"path": name.path, "number": name.number}
        self._write({"failed": failed, "error": one_line(error)})

    def stopped(self, error: BaseException) -> None:
        """Write that this process can't go on."""
        self._write({"stopped": one_line(error)})

    def finalized(self) -> None:
        """Write that DIALS has written all files of this process."""
        self._write({"finalized": True})

    @contextlib.contextmanager
    def failures_of(self, name: ImageName) -> Iterator[None]:
        """Write what is raised in here, for an image, and let it pass."""
        try:
            yield
        except Exception as error:
            self.failed(name, error)
            raise

    def read(self) -> Parts:
        """What all parts say."""
        parts = Parts()
        for path in self._paths():
            _read_part(path, parts)
        return parts

    def remove(self) -> None:
        """Remove the parts."""
        for path in self._paths():
            path.unlink()

    def remove_others(self) -> None:
        """Remove the parts of runs on this machine whose process is gone."""
        for path in self.folder.glob(_PART.format(run="*", process="*")):
            if not path.name.startswith(f".cnn_screen_{self.run}") and _is_left(path):
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(_PART.format(run=self.run, process="*")))

    def _write(self, line: dict[str, Any]) -> None:
        # Opened each time: a process that DIALS forks has a part of its own.
        name = _PART.format(run=self.run, process=_this_process())
        with JsonLinesFile(self.folder / name) as part:
            part.append(line)


def _this_process() -> str:
    return f"{os.getpid()}@{socket.gethostname()}"


def _is_left(part: Path) -> bool:
    """Whether a part is of a run on this machine that has ended."""
    pid, _, rest = part.name.removeprefix(".cnn_screen_").partition("@")
    if not pid.isdigit() or not rest.startswith(f"{socket.gethostname()}_"):
        return False
    return int(pid) == os.getpid() or not is_running(int(pid))


def _read_part(path: Path, parts: Parts) -> None:
    kept, finalized = set(), False
    for line in read_json_lines(path).lines:
        if "image" in line:
            result = image_from_json(line["image"])
            parts.classified[result.name] = result
            if result.kept:
                kept.add(result.name)
        elif "failed" in line:
            parts.failed.setdefault(ImageName(**line["failed"]), line["error"])
        elif "stopped" in line:
            parts.stopped.append(line["stopped"])
        finalized = finalized or "finalized" in line
    if not finalized:
        parts.lost |= kept
