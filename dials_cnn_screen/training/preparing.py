"""Labelled stills, read and prepared once: training does not wait for reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dials_cnn_screen.architecture import Architecture, Preparation, TrainingSet
from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.util.files import check_room
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import map_on_workers


class _Preparer(NamedTuple):
    """What each process has."""

    source: Source
    architecture: Architecture
    preparation: Preparation


def prepare_stills(
    stills: Sequence[Still],
    labels: Sequence[Label],
    architecture: Architecture,
    preparation: Preparation,
    nproc: int,
    folder: Path,
    title: str = "Preparing",
) -> TrainingSet:
    """The labelled stills as a network is trained on them.

    Args:
        stills: n of them.
        labels: Their classes.
        architecture: Of the network.
        preparation: Of its input.
        nproc: Processes.
        folder: For a training set that is on disk.
        title: Of the progress bar.

    Raises:
        ValueError: The folder has no room; or an image can't be read, or has nothing on
            it to classify it by: the message names it.
        ChildProcessError: A process died.
    """
    if architecture.on_disk():
        n_bytes = len(stills) * architecture.training_bytes(preparation)
        check_room(folder, n_bytes, "set output.model to a folder with room")
    data = architecture.training_set(len(stills), preparation, folder)
    # Compiled here, before the processes are forked.
    nothing = np.zeros((2, 2), np.float32)
    architecture.prepare_for_training(
        Frame(nothing, nothing == 0, (1.0, 1.0)), preparation
    )
    prepared = map_on_workers(
        _prepare, stills, nproc, _start, (architecture, preparation), chunk=8
    )
    for i, item in enumerate(track(prepared, title, len(stills))):
        data.put(i, item, labels[i])
    return data


def _start(architecture: Architecture, preparation: Preparation) -> _Preparer:
    return _Preparer(Source(), architecture, preparation)


def _prepare(preparer: _Preparer, still: Still) -> Any:
    try:
        frame = preparer.source.read(still)
        check_frame(frame)
    except Exception as problem:  # whatever dxtbx or a file format may raise
        raise ValueError(
            f"{still.name} can't be used: {problem}; label it None to leave it out"
        ) from None
    return preparer.architecture.prepare_for_training(frame, preparer.preparation)
