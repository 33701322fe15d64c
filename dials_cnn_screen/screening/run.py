"""Stills to class probabilities: read, prepare, classify, on one process or many."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch

from dials_cnn_screen.images.frames import Frame, read_frame
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.ke2018.preprocessing_cpu import used_range
from dials_cnn_screen.models.classifier import Answer, Classifier, make_classifier
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.screening.decision import probabilities
from dials_cnn_screen.spots.out_of_distribution import is_unlike
from dials_cnn_screen.util.workers import map_on_workers


@dataclass(frozen=True)
class Judgement:
    """What was found of one still.

    probabilities: float64 (3,) in the order of Label, or None with an error. seconds:
    spent on reading, preparing and classifying. spots, strangeness: as in Answer; None
    with an error.
    """

    probabilities: np.ndarray | None
    error: str | None
    seconds: tuple[float, float, float]
    spots: np.ndarray | None = None
    strangeness: float | None = None

    @property
    def unlike_training(self) -> bool | None:
        """Whether the still is unlike the model's training; None if not known."""
        return is_unlike(self.strangeness)


class Examination(NamedTuple):
    """A judgement, and what it rests on: the frame and the network's answer.

    frame, answer: None with an error.
    """

    judgement: Judgement
    frame: Frame | None
    answer: Answer | None


def judge(still: Still, classifier: Classifier) -> Judgement:
    """Read, prepare and classify one still; errors become part of the answer."""
    return examine(still, classifier).judgement


def examine(still: Still, classifier: Classifier) -> Examination:
    """Judge one still, with what the judgement rests on."""
    clock = [time.perf_counter()]
    try:
        frame = read_frame(still.imageset, still.position)
        check_judgeable(frame)
        clock.append(time.perf_counter())
        prepared = classifier.prepare(frame.data, frame.mask, frame.beam_centre)
        clock.append(time.perf_counter())
        answer = classifier.answer(prepared)
        p = probabilities(answer.scores, classifier.temperature)
    except Exception as problem:  # whatever dxtbx or a file format may raise
        error = " ".join(str(problem).split()) or type(problem).__name__
        return Examination(Judgement(None, error, _seconds(clock)), None, None)
    judgement = Judgement(p, None, _seconds(clock), answer.spots, answer.strangeness)
    return Examination(judgement, frame, answer)


def _seconds(clock: list[float]) -> tuple[float, float, float]:
    """Between the times on the clock and now, for three steps; 0 for one not begun."""
    return tuple(np.diff(clock + [time.perf_counter()] * (4 - len(clock))))


def check_judgeable(frame: Frame) -> None:
    """Raise ValueError for a frame that has nothing on it to judge by."""
    least, most = used_range(frame.data, frame.mask)
    if least > most:
        raise ValueError("every pixel is masked or outside the trusted range")
    if least == most:
        raise ValueError(f"every usable pixel has the same value, {least:g}")


def choose_device(device: str) -> str:
    """cpu or cuda for auto, cpu or cuda; ValueError where cuda is not to be had."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch finds no GPU; set device=cpu")
    return device


def screen(
    stills: list[Still],
    model: Model,
    device: str,
    nproc: int,
    look: Callable[[Still, Classifier], Any] = judge,
) -> Iterator[Any]:
    """Judge stills in order, on nproc processes.

    look: what is done with each still, and gives what is yielded; judge by default.
    Raises ChildProcessError if a process dies, for instance for want of memory.
    """
    if nproc == 1:
        classifier = make_classifier(model, device)
        yield from (look(still, classifier) for still in stills)
        return
    # A CUDA context does not survive a fork; a compiled kernel does.
    fork = device == "cpu"
    if fork:
        make_classifier(model, device)
    yield from map_on_workers(
        _look_at,
        range(len(stills)),
        nproc,
        _start_worker,
        (model, device, stills, look),
        chunk=16,
        fork=fork,
    )


def mpi_world() -> Any:
    """All MPI ranks, as mpi4py's communicator; an error on one of them ends them all.

    Raises ValueError where mpi4py is missing.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ValueError(
            f"mp.method=mpi needs mpi4py ({error}): install it into the Python that "
            "runs DIALS"
        ) from error
    show = sys.excepthook

    def show_and_abort(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        show(kind, error, traceback)
        sys.stderr.flush()
        # The others would wait for this rank's results for ever.
        MPI.COMM_WORLD.Abort(1)

    if MPI.COMM_WORLD.size > 1:
        sys.excepthook = show_and_abort
    return MPI.COMM_WORLD


def screen_mpi(
    stills: list[Still], model: Model, device: str, world: Any
) -> list[Judgement]:
    """Judge every size-th still on this MPI rank; all of them, in order, on rank 0.

    world: from mpi_world. Other ranks get an empty list.
    """
    classifier = make_classifier(model, device)
    mine = [judge(still, classifier) for still in stills[world.rank :: world.size]]
    parts = world.gather(mine, root=0)
    if world.rank != 0:
        return []
    return [parts[i % world.size][i // world.size] for i in range(len(stills))]


# A worker's own, so that a task is no more than a number.
_classifier: Classifier
_stills: list[Still]
_look: Callable[[Still, Classifier], Any]


def _start_worker(
    model: Model,
    device: str,
    stills: list[Still],
    look: Callable[[Still, Classifier], Any],
) -> None:
    global _classifier, _stills, _look
    _classifier, _stills, _look = make_classifier(model, device), stills, look


def _look_at(index: int) -> Any:
    return _look(_stills[index], _classifier)
