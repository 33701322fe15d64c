"""What the tests of dials.cnn_screen share: frames, and what it wrote about them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def levels() -> list[int]:
    return [250, 50, 150, 99, 101, 300, 0]


@pytest.fixture
def expected() -> Callable[[float], list[float]]:
    """P(Hit), P(Maybe), P(Miss) that level_model has for a frame of write_levels."""

    def expected(level: float) -> list[float]:
        f = level + 0.5
        z = np.exp([0.2 * f - 30, 0.1 * f - 10, 0])
        return list(z / z.sum())

    return expected


@pytest.fixture
def model(level_model) -> str:
    return f"model={level_model}"


@pytest.fixture
def images(write_levels, levels) -> str:
    """Seven frames of the levels above; that of level 0 is flat where not masked."""
    return str(write_levels("run1.h5", levels))


@pytest.fixture
def imported() -> Callable:
    """What dials.import makes of files, also written to name; with identifiers."""
    from dxtbx.model.experiment_list import ExperimentListFactory

    def imported(*files: str, name: str = "imported.expt"):
        experiments = ExperimentListFactory.from_filenames(list(files))
        for i, experiment in enumerate(experiments):
            experiment.identifier = f"{Path(name).stem}-{i}"
        experiments.as_file(name)
        return experiments

    return imported


@pytest.fixture
def results() -> Callable[[], dict]:
    return lambda: json.loads(Path("cnn_screen.json").read_text())


@pytest.fixture
def column(results) -> Callable[[str], list]:
    return lambda key: [image[key] for image in results()["images"]]


@pytest.fixture
def read() -> Callable:
    from dxtbx.model import ExperimentList

    return lambda name: ExperimentList.from_file(name, check_format=True)


@pytest.fixture
def places() -> Callable:
    """File and index of the image of each experiment of one image."""
    return lambda experiments: [
        (Path(e.imageset.get_path(0)).name, e.imageset.indices()[0])
        for e in experiments
    ]


@pytest.fixture
def start() -> Callable[..., subprocess.Popen]:
    """The program in a process of its own, after some lines of Python."""

    def start(*args: str, before: str = "", **popen: object) -> subprocess.Popen:
        program = "from dials_cnn_screen.command_line.cnn_screen import run\nrun()"
        return subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{program}", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background job ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **popen,
        )

    return start
