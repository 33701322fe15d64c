"""Many shots simulated side by side: whole runs, or prepared frames for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.candidates import Candidates, CandidateSearch
from dials_cnn_screen.labels import Label
from dials_cnn_screen.preprocessing import Preprocessing, prepare
from dials_cnn_screen.simulation.shot import Shot, simulate_shot
from dials_cnn_screen.simulation.wide import find_experiment
from dials_cnn_screen.training.dataset import Dataset, allocate_images, as_stored, wide
from dials_cnn_screen.training.spot_training import CandidateSet, match
from dials_cnn_screen.workers import map_on_workers

# Name of the experiment, class aimed at, seed.
Job = tuple[str, Label, int]
# An image as datasets store it; or candidates, and the truth about each.
Prepared = np.ndarray | tuple[Candidates, np.ndarray]


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
    return _map(simulate_job, jobs, nproc)


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
    shots = track(simulate_prepared(jobs, [preprocessing], nproc))
    for i, ((image,), label) in enumerate(shots):
        images[i], dataset.labels[i] = image, label
    return dataset


def simulate_candidates(
    jobs: list[Job],
    search: CandidateSearch,
    nproc: int,
    track: Callable[[Iterator], Iterable] = iter,
) -> CandidateSet:
    """Simulate shots and find their spot candidates, with the truth about each.

    track: goes through the shots as they are made, for instance tqdm.
    """
    data = CandidateSet.empty(len(jobs), search.most)
    shots = track(simulate_prepared(jobs, [search], nproc))
    for i, ((found,), label) in enumerate(shots):
        data.put(i, *found, label)
    return data


def simulate_prepared(
    jobs: list[Job], ways: Sequence[Preprocessing | CandidateSearch], nproc: int
) -> Iterator[tuple[list[Prepared], Label]]:
    """Simulate shots in order; what each gives in all of the ways, and its label."""
    return _map(_simulate_and_prepare, [(job, ways) for job in jobs], nproc)


def _map(function: Callable, work: list, nproc: int) -> Iterator:
    if nproc == 1:
        yield from map(function, work)
        return
    # Few at once, as a shot is large; not by forking, as torch's threads are at work.
    yield from map_on_workers(function, work, nproc, _one_thread, chunk=2, fork=False)


def _one_thread() -> None:
    torch.set_num_threads(1)


def simulate_job(job: Job) -> Shot:
    """The shot of one job."""
    experiment, aim, seed = job
    return simulate_shot(find_experiment(experiment), aim, seed)


def _simulate_and_prepare(
    work: tuple[Job, Sequence[Preprocessing | CandidateSearch]],
) -> tuple[list[Prepared], Label]:
    job, ways = work
    shot = simulate_job(job)
    centre = find_experiment(job[0]).detector.beam_centre
    return [_prepare(shot, centre, way) for way in ways], shot.label


def _prepare(
    shot: Shot,
    beam_centre: tuple[float, float],
    way: Preprocessing | CandidateSearch,
) -> Prepared:
    if isinstance(way, CandidateSearch):
        return _search(shot, beam_centre, way)
    return as_stored(prepare(shot.image, shot.mask, beam_centre, wide(way)))


def _search(
    shot: Shot, beam_centre: tuple[float, float], search: CandidateSearch
) -> tuple[Candidates, np.ndarray]:
    from dials_cnn_screen.kernels.cpu_candidates import find_candidates

    frame = shot.image.astype(np.float32)
    found = find_candidates(frame, shot.mask, beam_centre, search)
    truth = match(found, shot.spots, shot.significance)
    # A grain of ice looks like a spot: only its radius, beside others, tells it apart.
    grains = match(found, shot.powder, np.full(len(shot.powder), np.inf)) == 1
    truth[grains & (truth == 0)] = np.nan
    return found, truth
