"""The results of many stills as they come, on processes or MPI ranks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.ranks import screen_on_ranks
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.run import choose_device, screen
from dials_cnn_screen.util.mpi import mpi_world
from dials_cnn_screen.util.workers import Processes, count_processes

logger = logging.getLogger("dials.cnn_screen")


def stream_results(
    stills: Sequence[Still],
    model: Model,
    decision: Decision,
    device: str,
    mp: Processes,
    todo: Sequence[int] | None = None,
    reads: bool = True,
) -> Iterator[tuple[int, ImageResult]]:
    """Place and result of each still as they come; close it to stop before the end.

    In order, but for MPI, where the ranks but the first get none.

    Args:
        stills: All of a run.
        model, decision, device, mp: As the program has them.
        todo: Places of the stills to classify; None: of all. On MPI ranks but the
            first it does not matter.
        reads: Whether this MPI rank can read the stills.
    """
    streamed = _stream(stills, model, decision, choose_device(device), mp, todo, reads)
    with contextlib.closing(streamed):
        yield from _count_left(streamed)


def _stream(
    stills: Sequence[Still],
    model: Model,
    decision: Decision,
    device: str,
    mp: Processes,
    todo: Sequence[int] | None,
    reads: bool,
) -> Generator[tuple[int, ImageResult], None, None]:
    """As stream_results, on cpu or cuda."""
    todo = range(len(stills)) if todo is None else todo
    where = f"Screening {len(todo)} image{'s' * (len(todo) != 1)} on {device}"
    if mp.method == "mpi":
        world = mpi_world()
        logger.info("%s, %d MPI ranks", where, world.size)
        yield from screen_on_ranks(stills, todo, model, device, decision, world, reads)
        return
    nproc = count_processes(mp.nproc, len(todo))
    logger.info("%s, nproc=%d", where, nproc)
    results = screen([stills[i] for i in todo], model, device, decision, nproc)
    with contextlib.closing(results):
        yield from zip(todo, results, strict=True)


def _count_left(
    results: Iterator[tuple[int, ImageResult]],
) -> Iterator[tuple[int, ImageResult]]:
    """The same results; the log says how many a GPU left to the CPU."""
    n = left = 0
    for place, result in results:
        n, left = n + 1, left + result.left_to_cpu
        yield place, result
    if left:
        logger.info(
            "%d of %d images did not fit the GPU's kernels and were classified on the "
            "CPU",
            left,
            n,
        )


def in_order(results: Iterator[tuple[int, ImageResult]]) -> list[ImageResult]:
    """The results alone, by place."""
    by_place = dict(results)
    return [by_place[place] for place in sorted(by_place)]
