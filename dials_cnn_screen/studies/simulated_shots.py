"""Simulated shots prepared for training: images or candidates, with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare
from dials_cnn_screen.ke2018.training_set import (
    Dataset,
    allocate_images,
    as_stored,
    wide,
)
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.random_experiments import find_experiment
from dials_cnn_screen.simulation.run import Job, map_shots, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.spots.candidates import Candidates, CandidateSearch
from dials_cnn_screen.spots.training_set import CandidateSet, match

# An image as datasets store it; or candidates, and the truth about each.
Prepared = np.ndarray | tuple[Candidates, np.ndarray]


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
    return map_shots(_simulate_and_prepare, [(job, ways) for job in jobs], nproc)


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
    from dials_cnn_screen.spots.candidates_cpu import find_candidates

    frame = shot.image.astype(np.float32)
    found = find_candidates(frame, shot.mask, beam_centre, search)
    truth = match(found, shot.spots, shot.significance)
    # A grain of ice looks like a spot: only its radius, beside others, tells it apart.
    grains = match(found, shot.powder, np.full(len(shot.powder), np.inf)) == 1
    truth[grains & (truth == 0)] = np.nan
    return found, truth
