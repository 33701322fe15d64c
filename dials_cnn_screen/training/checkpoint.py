"""Where a training run stands, in a file, so that a killed one can go on."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.util.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """A file for the state of a run; no code is run when it is read.

    run: what the run is of, by names that a user knows: JSON values, all of which must
    be the same for a run to go on from the file.
    """

    path: Path
    run: dict[str, object]

    def save(self, state: dict) -> None:
        """Write the state, tensors and plain values, in place of an earlier one."""
        with replacing(self.path) as unfinished:
            torch.save({"run": json.dumps(self.run), "state": state}, unfinished)

    def load(self) -> dict | None:
        """The state that was saved; None where there is no file.

        Raises ValueError where the file is damaged, or of another run, with what is
        different.
        """
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            run, state = json.loads(content["run"]), content["state"]
        except (
            pickle.UnpicklingError,
            EOFError,
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            raise ValueError(
                f"checkpoint '{self.path}' is damaged; remove it to begin anew"
            ) from error
        wanted = json.loads(json.dumps(self.run))
        names = [x for x in wanted | run if wanted.get(x) != run.get(x)]
        if names:
            changes = ", ".join(
                f"{x} ({_short(run.get(x))}, now {_short(wanted.get(x))})"
                for x in names
            )
            raise ValueError(
                f"checkpoint '{self.path}' is of another run, with other {changes}; "
                "give the same parameters and labels to go on, or remove it, or set "
                "training.resume=False, to begin anew"
            )
        return state


def digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of arrays, item by item; they may be memory-mapped."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f"{array.dtype}{array.shape}".encode())
        for item in array:
            sha256.update(np.ascontiguousarray(item))
    return sha256.hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
