"""Labelled stills, read and prepared once: training does not wait for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from dials_cnn_screen.images.frames import Frame, read_frame
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.ke2018 import preprocessing_cpu as cpu
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import (
    Dataset,
    allocate_unnamed,
    as_stored,
    wide,
)
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.run import check_judgeable
from dials_cnn_screen.spots import candidates_cpu as cpu_candidates
from dials_cnn_screen.spots.candidates import PATCH, Candidates, CandidateSearch
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.util.files import check_room
from dials_cnn_screen.util.workers import map_on_workers

Labelled = list[tuple[Still, Label]]


def prepare_stills(
    labelled: Labelled,
    preprocessing: Preprocessing | CandidateSearch,
    nproc: int,
    folder: Path,
    track: Callable[[Iterator], Iterable] = iter,
) -> Dataset | CandidateSet:
    """The labelled stills as a network is trained on them.

    Images go to an unnamed file in folder, memory-mapped; candidates stay in memory.
    Nothing is known of the candidates' truth. track: goes through the stills as they
    are prepared, for instance tqdm.

    Raises ValueError where the folder has no room, and, with its name, for an image
    that can't be read or has nothing on it; ChildProcessError if a process dies.
    """
    labels = np.array([int(label) for _, label in labelled], dtype=np.int64)
    prepared = track(_prepare_all([s for s, _ in labelled], preprocessing, nproc))
    if isinstance(preprocessing, CandidateSearch):
        candidates = CandidateSet.empty(len(labels), preprocessing.most)
        for i, found in enumerate(prepared):
            candidates.put(i, found, np.full(len(found.z), np.nan), labels[i])
        return candidates
    n_bytes = len(labels) * bytes_each(preprocessing)
    check_room(folder, n_bytes, "set output.model to a folder with room")
    images = allocate_unnamed(folder, len(labels), preprocessing)
    for i, image in enumerate(prepared):
        images[i] = image
    return Dataset(images, labels)


def bytes_each(preprocessing: Preprocessing | CandidateSearch) -> int:
    """What a prepared still takes: on disk for images, in memory for candidates."""
    if isinstance(preprocessing, CandidateSearch):
        return preprocessing.most * 2 * PATCH * PATCH * 2
    return 2 * wide(preprocessing).size ** 2


def _prepare_all(
    stills: list[Still], preprocessing: Preprocessing | CandidateSearch, nproc: int
) -> Iterator[np.ndarray | Candidates]:
    _start_worker(stills, preprocessing)
    if nproc == 1:
        return map(_prepare, range(len(stills)))
    # Compiled here, before the processes are forked.
    nothing = np.zeros((2, 2), np.float32)
    _prepare_frame(Frame(nothing, nothing == 0, (1.0, 1.0)), preprocessing)
    return map_on_workers(
        _prepare,
        range(len(stills)),
        nproc,
        _start_worker,
        (stills, preprocessing),
        chunk=8,
        fork=True,
    )


# A process's own, so that a task is no more than a number.
_stills: list[Still]
_preprocessing: Preprocessing | CandidateSearch


def _start_worker(
    stills: list[Still], preprocessing: Preprocessing | CandidateSearch
) -> None:
    global _stills, _preprocessing
    _stills, _preprocessing = stills, preprocessing


def _prepare(index: int) -> np.ndarray | Candidates:
    still = _stills[index]
    try:
        frame = read_frame(still.imageset, still.position)
        check_judgeable(frame)
    except Exception as problem:  # whatever dxtbx or a file format may raise
        raise ValueError(
            f"{still.file} [{still.frame}] can't be used: {problem}; label it None to "
            "leave it out"
        ) from None
    return _prepare_frame(frame, _preprocessing)


def _prepare_frame(
    frame: Frame, preprocessing: Preprocessing | CandidateSearch
) -> np.ndarray | Candidates:
    seen = (frame.data, frame.mask, frame.beam_centre)
    if isinstance(preprocessing, CandidateSearch):
        return cpu_candidates.find_candidates(*seen, preprocessing)
    return as_stored(cpu.prepare(*seen, wide(preprocessing)))
