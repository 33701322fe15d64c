"""The state of a training run in a file, so that a killed run can be resumed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.util.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """A file for the state of a run; no code is run when it is read.

    Attributes:
        path: The file.
        run: What the result of the run depends on, by names that a user knows: JSON
            values, all of which must be the same for the run to be resumed.
    """

    path: Path
    run: dict[str, Any]

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, tensors and plain values, in place of an earlier one."""
        with replacing(self.path) as unfinished:
            torch.save({"run": json.dumps(self.run), "state": state}, unfinished)

    def damaged(self) -> ValueError:
        """The error for a file that is not what save writes."""
        return ValueError(
            f"checkpoint '{self.path}' is damaged; remove it to start again"
        )

    def load(self) -> dict[str, Any] | None:
        """The state that was saved; None where there is no file.

        Raises:
            ValueError: The file is damaged, or is of a run that differs; the message
                has the differences.
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
            AttributeError,
        ) as error:
            raise self.damaged() from error
        except OSError as error:
            raise ValueError(
                f"checkpoint '{self.path}' can't be read: {error.strerror}"
            ) from error
        if not isinstance(run, dict) or not isinstance(state, dict):
            raise self.damaged()
        wanted = json.loads(json.dumps(self.run))
        names = [x for x in wanted | run if wanted.get(x) != run.get(x)]
        if names:
            changes = ", ".join(
                f"{x} ({_short(run.get(x))}, now {_short(wanted.get(x))})"
                for x in names
            )
            raise ValueError(
                f"checkpoint '{self.path}' is of another run, with other {changes}; "
                "give the same parameters and labels to resume it, or set "
                "training.resume=False to start again"
            )
        return state


def digest(arrays: Iterable[NDArray]) -> str:
    """SHA-256 of arrays, item by item; they may be memory-mapped."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f"{array.dtype}{array.shape}".encode())
        for item in array:
            sha256.update(np.ascontiguousarray(item).data)
    return sha256.hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
