"""What a run was made with: command, folder, date, parameters and versions."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import numpy as np
from dials.util.version import dials_version

from dials_cnn_screen import __version__


@dataclass(frozen=True)
class Provenance:
    """What is to be known to do a run again.

    Attributes:
        command: As a shell takes it.
        folder: That it was given in.
        started: Of format_now.
        parameters: Those other than the default, in PHIL form.
    """

    command: str
    folder: str
    started: str
    parameters: str

    @classmethod
    def of(cls, program: str, args: Sequence[str], parameters: str) -> Provenance:
        """That of a run that starts now, in the current folder."""
        command = shlex.join([program, *args])
        return cls(command, os.getcwd(), format_now(), parameters)


def format_now() -> str:
    """Date and time, local, to the second: ``2026-11-27 08:50:43 CET``."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def find_versions() -> dict[str, str]:
    """Versions of this package and of what it calculates with."""
    return {
        "dials_cnn_screen": __version__,
        "DIALS": dials_version().removeprefix("DIALS "),
        "Python": platform.python_version(),
        "numpy": np.__version__,
        # From its metadata: to import it takes a second, even to read files alone.
        "torch": version("torch"),
    }
