"""Stills to results: read, prepare, classify, decide, on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dials_cnn_screen.images.ahead import read_ahead
from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, decide
from dials_cnn_screen.util.workers import map_on_workers


class Screener(NamedTuple):
    """What each process has: what reads stills, the model made ready, the decision."""

    source: Source
    predictor: Predictor
    decision: Decision


def make_screener(model: Model, device: str, decision: Decision) -> Screener:
    """The model made ready on cpu or cuda, with the decision."""
    return Screener(Source(), model.predictor(device), decision)


def screen_still(screener: Screener, still: Still) -> ImageResult:
    """Read, prepare and classify one still; an error becomes part of the result."""
    return screen_frame(screener, still)[0]


def screen_frame(screener: Screener, still: Still) -> tuple[ImageResult, Frame | None]:
    """The result for one still, and its frame; None with an error."""
    clock = [time.perf_counter()]
    try:
        frame = screener.source.read(still)
        check_frame(frame)
        clock.append(time.perf_counter())
        prepared = screener.predictor.prepare(frame)
        clock.append(time.perf_counter())
        prediction = screener.predictor.classify(prepared)
    except Exception as problem:  # whatever dxtbx or a file format may raise
        error = " ".join(str(problem).split()) or type(problem).__name__
        return decide(still.name, None, error, screener.decision, _seconds(clock)), None
    seconds = _seconds(clock)
    return decide(still.name, prediction, None, screener.decision, seconds), frame


def _seconds(clock: list[float]) -> tuple[float, float, float]:
    """Between the times on the clock and now, for three steps; 0 for one not begun."""
    reading, preparing, classifying = np.diff(
        clock + [time.perf_counter()] * (4 - len(clock))
    ).tolist()
    return reading, preparing, classifying


def screen(
    stills: Sequence[Still],
    model: Model,
    device: str,
    decision: Decision,
    nproc: int,
    work: Callable[[Screener, Still], Any] = screen_still,
) -> Generator[Any, None, None]:
    """The results for the stills, in order, on nproc processes.

    Close the iterator to stop before the end.

    Args:
        stills: Any number.
        model, device, decision: As in make_screener.
        nproc: Number of processes.
        work: What is done with each still, and gives its result.

    Raises:
        ChildProcessError: A process died, for instance for want of memory.
    """
    if nproc == 1 or len(stills) < 2:
        yield from _screen_here(stills, model, device, decision, work)
        return
    # A CUDA context does not survive a fork; a compiled kernel does.
    fork = device == "cpu"
    arguments = (model, device, decision)
    if fork:
        make_screener(*arguments)
    yield from map_on_workers(work, stills, nproc, make_screener, arguments, fork=fork)


def _screen_here(
    stills: Sequence[Still],
    model: Model,
    device: str,
    decision: Decision,
    work: Callable[[Screener, Still], Any],
) -> Iterator[Any]:
    """The results for the stills, in order, on this process; one more thread reads."""
    screener = make_screener(model, device, decision)
    with read_ahead(stills) as source:
        screener = screener._replace(source=source)
        yield from (work(screener, still) for still in stills)


def choose_device(device: str) -> str:
    """cpu or cuda for auto, cpu or cuda; ValueError where there is no cuda."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch finds no GPU; set device=cpu")
    return device
