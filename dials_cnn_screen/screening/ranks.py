"""A run on MPI ranks: images handed out as ranks get free, results as they come."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.ahead import read_ahead
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.run import (
    make_screener,
    screen_all,
    screen_still,
)
from dials_cnn_screen.util.mpi import ending_together
from dials_cnn_screen.util.queues import WorkQueue

# Images that a rank gets at once, at most. By hand, as for processes.
_CHUNK = 16


def share_experiments(
    experiments: ExperimentList, world: Any
) -> tuple[ExperimentList, bool]:
    """The experiments of the run, and whether this rank can read their images.

    psana2 shows events to ranks 2 and up alone: ranks without experiments get those of
    another rank, to know the images by name.
    """
    finds = bool(len(experiments))
    finders = world.allgather(finds)
    if all(finders) or not any(finders):
        return experiments, finds
    first = finders.index(True)
    content = experiments.to_dict() if world.rank == first else None
    content = world.bcast(content, root=first)
    if not finds:
        experiments = ExperimentListFactory.from_dict(content, check_format=False)
    return experiments, finds


def screen_on_ranks(
    stills: Sequence[Still],
    todo: Sequence[int],
    model: Model,
    device: str,
    decision: Decision,
    world: Any,
    reads: bool = True,
) -> Iterator[tuple[int, ImageResult]]:
    """Place and result of each still as they come, on rank 0; none on other ranks.

    Rank 0 hands out the images, and classifies too. Each rank gets those of one file as
    long as there are any.

    Args:
        stills: The same on all ranks.
        todo: Places of those to classify; of rank 0.
        model, device, decision: As in make_screener.
        world: From mpi_world.
        reads: Whether this rank can read the stills; one that can't gets none.

    Raises:
        ValueError: The ranks have other stills.
    """
    with ending_together(world):
        names = "\n".join(str(still.name) for still in stills)
        digests = world.allgather(hashlib.sha256(names.encode()).hexdigest())
        if len(set(digests)) > 1:
            raise ValueError("the MPI ranks do not find the same images in the files")
        readers = world.allgather(reads)
        lead = _Lead(stills, todo, readers, world) if world.rank == 0 else None
        if reads or lead:
            with read_ahead([]) as source:
                screener = make_screener(model, device, decision)
                screener = screener._replace(source=source)
                if lead is None:
                    _follow(stills, screener, world)
                else:
                    yield from lead.results(screener)


class _Lead:
    """What rank 0 does: hand out images, classify some, collect the results."""

    def __init__(
        self,
        stills: Sequence[Still],
        todo: Sequence[int],
        readers: list[bool],
        world: Any,
    ) -> None:
        self._stills, self._world, self._reads = stills, world, readers[0]
        self._n_others = sum(readers[1:])
        files = [still.name.path for still in stills]
        self._queue = WorkQueue(todo, files, sum(readers))
        self._n_left = len(todo)

    def results(self, screener: Any) -> Iterator[tuple[int, ImageResult]]:
        """Place and result of each image as they come."""
        own: deque[int] = deque()
        while self._n_left or self._n_others:
            if self._reads and not own:
                own.extend(self._queue.take(0, _CHUNK))
                screener.source.add(self._stills[i] for i in own)
            # The others first: a rank that waits does nothing.
            if own and not self._world.iprobe():
                place = own.popleft()
                self._n_left -= 1
                yield place, screen_still(screener, self._stills[place])
                continue
            rank, result = self._world.recv()
            if result is not None:
                self._n_left -= 1
                yield result
            else:
                chunk = self._queue.take(rank, _CHUNK)
                self._n_others -= not chunk
                self._world.send(chunk, dest=rank)


def _follow(stills: Sequence[Still], screener: Any, world: Any) -> None:
    """What another rank does: classify what rank 0 hands out until that is nothing."""
    ready = (world.rank, None)
    world.send(ready, dest=0)
    while chunk := world.recv(source=0):
        screener.source.add(stills[place] for place in chunk)
        results = screen_all(screen_still, screener, [stills[i] for i in chunk])
        for n_left, place in zip(range(len(chunk), 0, -1), chunk, strict=True):
            if n_left == 1:
                # The next chunk comes while the last image of this one is classified.
                world.send(ready, dest=0)
            world.send((world.rank, (place, next(results))), dest=0)
