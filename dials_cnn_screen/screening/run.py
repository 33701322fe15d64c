"""Stills to results: read, prepare, classify, decide, on one process or many."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from dials_cnn_screen.images.ahead import read_ahead
from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.images.geometry import find_spacings
from dials_cnn_screen.images.raw_frame import RawFrame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, decide
from dials_cnn_screen.util.devices import may_have_gpu
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.threads import keep_freed_memory
from dials_cnn_screen.util.workers import map_on_workers

# torch is imported where there is a GPU.
if TYPE_CHECKING:
    from dials_cnn_screen.screening.gpu import GpuStream

# Images that a process with a GPU gets at once: some batches, so that copying and
# computing overlap. By hand.
_STREAMED = 128


class NamedImage(Protocol):
    """A still, or another image that a source can read."""

    @property
    def name(self) -> ImageName:
        """The image's name."""


class Screener(NamedTuple):
    """What each process has.

    Attributes:
        source: Reads stills.
        predictor: The model made ready.
        decision: Which images are kept.
        stream: The model for batches on a GPU; None on a CPU, or without kernels.
    """

    source: Source
    predictor: Predictor
    decision: Decision
    stream: GpuStream | None = None


def make_screener(model: Model, device: str, decision: Decision) -> Screener:
    """The model made ready on cpu or cuda, with the decision."""
    predictor, stream = model.predictor(device), None
    if predictor.device == "cuda" and model.entry.has_kernels(model.preparation):
        from dials_cnn_screen.screening.gpu import GpuStream

        stream = GpuStream(model)
    return Screener(Source(), predictor, decision, stream)


def screen_still(screener: Screener, still: Still) -> ImageResult:
    """Read, prepare and classify one still; an error becomes part of the result.

    Features are left out: a run keeps its results.
    """
    result, _ = screen_frame(screener, still)
    return replace(result, prediction=without_features(result.prediction))


def without_features(prediction: Prediction | None) -> Prediction | None:
    """The same prediction as results keep it."""
    if prediction is None:
        return None
    return replace(prediction, features=None, rings=None)


def with_rings(result: ImageResult, still: NamedImage) -> ImageResult:
    """The result with the spacings of the powder rings of its prediction.

    As it is for an image of a stream, whose geometry is not at hand here.
    """
    if not isinstance(still, Still) or not result.prediction:
        return result
    if (rings := result.prediction.rings) is None:
        return result
    imageset, position = still.imageset, still.position
    detector, beam = imageset.get_detector(position), imageset.get_beam(position)
    return replace(result, rings=find_spacings(detector, beam, rings))


def screen_frame(
    screener: Screener, still: NamedImage
) -> tuple[ImageResult, Frame | None]:
    """The result for one still, and its frame; None with an error."""
    clock = [time.perf_counter()]
    try:
        frame = screener.source.read(still)  # type: ignore[arg-type]
        check_frame(frame)
        check_eye(screener.decision, frame.shape)
        clock.append(time.perf_counter())
        prepared = screener.predictor.prepare(frame)
        clock.append(time.perf_counter())
        prediction = screener.predictor.classify(prepared)
        seconds = _seconds(clock)
        result = decide(still.name, prediction, None, screener.decision, seconds)
        return with_rings(result, still), frame
    except Exception as problem:  # whatever dxtbx or a file format may raise
        error = one_line(problem)
        return decide(still.name, None, error, screener.decision, _seconds(clock)), None


def check_eye(decision: Decision, shape: tuple[int, ...]) -> None:
    """Raise ValueError where the eye of a decision can't judge frames of a shape."""
    if decision.eye is not None:
        decision.eye.check_frame(shape)


def _seconds(clock: list[float]) -> tuple[float, float, float]:
    """Between the times on the clock and now, for three steps; 0 for one not begun."""
    reading, preparing, classifying = np.diff(
        clock + [time.perf_counter()] * (4 - len(clock))
    ).tolist()
    return reading, preparing, classifying


def screen_stream(
    screener: Screener, stream: GpuStream, stills: Sequence[Still]
) -> Iterator[ImageResult]:
    """The results for stills in batches on a GPU, in order."""
    reading = 0.0

    def frames() -> Iterator[Frame | RawFrame | Exception]:
        nonlocal reading
        for still in stills:
            start = time.perf_counter()
            frame: Frame | RawFrame | Exception
            try:
                frame = screener.source.read_for_gpu(still)
                check_eye(screener.decision, frame.shape)
            except Exception as problem:  # whatever dxtbx or a file format may raise
                frame = problem
            reading += time.perf_counter() - start
            yield frame

    start = time.perf_counter()
    for still, classified in zip(stills, stream.classify(frames()), strict=True):
        prediction, error = None, None
        if isinstance(classified.outcome, Exception):
            error = one_line(classified.outcome)
        else:
            prediction = classified.outcome
        now = time.perf_counter()
        seconds = reading, 0.0, max(now - start - reading, 0.0)
        start, reading = now, 0.0
        result = decide(still.name, prediction, error, screener.decision, seconds)
        result = with_rings(result, still)
        yield replace(
            result,
            prediction=without_features(result.prediction),
            left_to_cpu=classified.left_to_cpu,
        )


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
    keep_freed_memory()
    if nproc == 1 or len(stills) < 2:
        yield from _screen_here(stills, model, device, decision, work)
        return
    # A CUDA context does not survive a fork; a compiled kernel does.
    fork = device == "cpu"
    arguments = (model, device, decision)
    if fork:
        make_screener(*arguments)
        yield from map_on_workers(work, stills, nproc, make_screener, arguments)
        return
    size = max(1, min(_STREAMED, len(stills) // nproc))
    parts = [stills[i : i + size] for i in range(0, len(stills), size)]
    for results in map_on_workers(
        functools.partial(_screen_part, work),
        *(parts, nproc, make_screener, arguments),
        chunk=1,
        fork=False,
    ):
        yield from results


def _screen_part(
    work: Callable[[Screener, Still], Any], screener: Screener, stills: Sequence[Still]
) -> list[Any]:
    """The results for the stills that a process with a GPU gets at once."""
    return list(screen_all(work, screener, stills))


def screen_all(
    work: Callable[[Screener, Still], Any], screener: Screener, stills: Sequence[Still]
) -> Iterator[Any]:
    """The results for stills, in order: in batches where all there is to do is that."""
    if screener.stream is not None and work is screen_still:
        yield from screen_stream(screener, screener.stream, stills)
    else:
        yield from (work(screener, still) for still in stills)


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
        yield from screen_all(work, screener, stills)


def choose_device(device: str) -> str:
    """cpu or cuda for auto, cpu or cuda; ValueError where there is no cuda."""
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch finds no GPU; set device=cpu")
    return device
