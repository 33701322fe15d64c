"""Many shots simulated side by side: whole runs, or prepared frames for training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.dataset import Dataset, allocate_images, as_stored, wide
from dials_cnn_screen.labels import Label
from dials_cnn_screen.preprocessing import Preprocessing, prepare
from dials_cnn_screen.simulation.detector import usable_pixels
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.shot import Shot, simulate_shot

# Name of the experiment, class aimed at, seed.
Job = tuple[str, Label, int]


def plan_run(
    experiment: str, n_shots: int, fractions: tuple[float, ...], seed: int
) -> list[Job]:
    """The shots of a run, in random order of class.

    fractions: of Hit, Maybe and Miss, in any unit; the counts are as near to them as
    whole numbers allow. Raises ValueError where they are not three numbers, or all 0.
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


def simulate_run(jobs: list[Job], nproc: int) -> Iterator[Shot]:
    """Simulate the shots in order; what comes out does not depend on nproc."""
    return _map(_simulate, jobs, nproc)


def simulate_dataset(
    jobs: list[Job],
    preprocessing: Preprocessing,
    path: Path,
    nproc: int,
    track: Callable[[Iterator], Iterable] = iter,
) -> Dataset:
    """Simulate shots and prepare them for training, into a memory-mapped file at path.

    track: goes through the shots as they are made, for instance tqdm.
    """
    images = allocate_images(path, len(jobs), preprocessing)
    dataset = Dataset(images, np.zeros(len(jobs), dtype=np.int64))
    work = [(job, preprocessing) for job in jobs]
    shots = track(_map(_simulate_and_prepare, work, nproc))
    for i, (frame, label) in enumerate(shots):
        images[i], dataset.labels[i] = frame, label
    return dataset


def _map(function: Callable, work: list, nproc: int) -> Iterator:
    if nproc == 1:
        yield from map(function, work)
        return
    with multiprocessing.get_context("spawn").Pool(nproc, _one_thread) as pool:
        yield from pool.imap(function, work, chunksize=2)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _simulate(job: Job) -> Shot:
    experiment, aim, seed = job
    return simulate_shot(EXPERIMENTS[experiment], aim, seed)


def _simulate_and_prepare(work: tuple[Job, Preprocessing]) -> tuple[np.ndarray, Label]:
    job, preprocessing = work
    shot = _simulate(job)
    detector = EXPERIMENTS[job[0]].detector
    mask = usable_pixels(detector, shot.image)
    frame = prepare(shot.image, mask, detector.beam_centre, wide(preprocessing))
    return as_stored(frame), shot.label
