"""Training on the labels so far, in a process of its own beside the window."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from dxtbx.model import ExperimentList

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.viewer import train_process

# Fewest labels of each kind: the smallest number in docs/annotation.md that gained
# something was 20.
FEWEST = 10
# What the outputs are called after a label file labels.txt.
_OUTPUTS = {
    train_process.MODEL: "_trained.safetensors",
    train_process.SCORES: "_trained.json",
    train_process.LOG: "_trained.log",
}


def format_wanting(counts: Mapping[Label, int]) -> str | None:
    """How many labels are missing for a training; None where there are enough."""
    n = {
        "Hits or Maybes": counts[Label.HIT] + counts[Label.MAYBE],
        "Misses": counts[Label.MISS],
    }
    more = [f"{FEWEST - k} more {what}" for what, k in n.items() if k < FEWEST]
    if not more:
        return None
    needs = " and ".join(f"{FEWEST} {what}" for what in n)
    return f"Training needs {needs}: label {' and '.join(more)}"


class Trainer:
    """A training in a process of its own, of which nothing is left when it is stopped.

    Attributes:
        model, scores, log: The files beside the labels, once it is done.
    """

    def __init__(
        self,
        labels: Path,
        experiments: ExperimentList,
        on_progress: Callable[[str], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        """Start it.

        Args:
            labels: The annotation file; a copy of it is used.
            experiments: All its images.
            on_progress: Called with what the process says, from another thread.
            on_end: Called last, from that thread, with an error, or None where the
                files are there. Not called once it is stopped.

        Raises:
            OSError: The folder of the labels can't be written.
        """
        self.model, self.scores, self.log = (
            labels.with_name(labels.stem + ending) for ending in _OUTPUTS.values()
        )
        self._stopped = False
        # Beside the labels, so that what is done needs only to be renamed.
        self._folder = Path(
            tempfile.mkdtemp(prefix=f".{labels.stem}_trained.", dir=labels.parent)
        )
        try:
            experiments.as_file(str(self._folder / train_process.IMAGES))
            shutil.copyfile(labels, self._folder / train_process.LABELS)
            self._process = subprocess.Popen(
                [sys.executable, "-m", train_process.__name__, str(self._folder)],
                stdin=subprocess.PIPE,  # it ends with this one
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._follower = threading.Thread(
            target=self._follow, args=(on_progress, on_end), daemon=True
        )
        self._follower.start()

    def stop(self) -> None:
        """End the process; nothing is left of it."""
        self._stopped = True
        self._process.kill()
        self._follower.join()

    def _follow(
        self, on_progress: Callable[[str], None], on_end: Callable[[str | None], None]
    ) -> None:
        said = "it said nothing"
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                said = " ".join(line.split())
                on_progress(said)
        failed = self._process.wait() != 0
        error = f"{said} ({self.log})" if failed else None
        if not self._stopped:
            try:
                self._put_in_place([train_process.LOG] if failed else list(_OUTPUTS))
            except OSError as problem:
                error = error or str(problem)
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._stopped:
            on_end(error)

    def _put_in_place(self, names: list[str]) -> None:
        places = dict(zip(_OUTPUTS, (self.model, self.scores, self.log), strict=True))
        for name in names:
            if (self._folder / name).exists():
                os.replace(self._folder / name, places[name])
