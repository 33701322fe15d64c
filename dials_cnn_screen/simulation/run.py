"""Many shots simulated side by side: the shots of a run, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.random_experiments import Job, find_experiment
from dials_cnn_screen.simulation.shot import Shot, simulate_shot
from dials_cnn_screen.util.workers import map_on_workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def plan_run(
    experiment: str, n_shots: int, fractions: tuple[float, ...], seed: int
) -> list[Job]:
    """The shots of a run, in random order of class.

    Args:
        experiment: By name.
        n_shots: At least 1.
        fractions: Of Hit, Maybe and Miss, in any unit; the counts are as near to them
            as whole numbers allow.
        seed: Of the order and of the shots.

    Raises:
        ValueError: The fractions are not three numbers from 0 up, or are all 0.
    """
    shares = np.array(fractions, dtype=float)
    if (
        shares.shape != (len(Label),)
        or (shares < 0).any()
        or not 0 < shares.sum() < np.inf
    ):
        raise ValueError(
            f"fractions={fractions} are not three shares for Hit, Maybe and Miss"
        )
    ends = np.round(np.cumsum(shares) / shares.sum() * n_shots).astype(int)
    aims = np.repeat(list(Label), np.diff(ends, prepend=0))
    np.random.default_rng(seed).shuffle(aims)
    seeds = np.random.SeedSequence(seed).generate_state(n_shots, np.uint64)
    return [(experiment, Label(a), int(s)) for a, s in zip(aims, seeds, strict=True)]


def simulate_run(jobs: Sequence[Job], nproc: int) -> Iterator[Shot]:
    """Simulate the shots in order; what comes out does not depend on nproc."""
    return map_shots(simulate_job, jobs, nproc)


def map_shots(
    function: Callable[[Item], Result], work: Sequence[Item], nproc: int
) -> Iterator[Result]:
    """``function(item)`` for each item of work, in order, on nproc processes."""
    nproc = max(1, min(nproc, len(work)))
    # Few at once, as a shot is large; not by forking, as torch's threads are at work.
    yield from map_on_workers(
        _call, work, nproc, _start, (function,), chunk=2, fork=False
    )


def _start(function: Callable[[Item], Result]) -> Callable[[Item], Result]:
    return function


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def simulate_job(job: Job) -> Shot:
    """The shot of one job."""
    experiment, aim, seed = job
    return simulate_shot(find_experiment(experiment), aim, seed)
