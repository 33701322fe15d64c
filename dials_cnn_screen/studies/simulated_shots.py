"""Simulated shots prepared for training, by the code that prepares real images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import Preparation
from dials_cnn_screen.images.frame import Frame, fill_trusted
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import Dataset, allocate_images
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.detector import static_mask
from dials_cnn_screen.simulation.random_experiments import Job, find_experiment
from dials_cnn_screen.simulation.run import map_shots, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.spots.candidates import Candidates, CandidateSearch
from dials_cnn_screen.spots.training_set import CandidateSet, match_spots
from dials_cnn_screen.util.progress import track

# Rings of fewer visible grains teach nothing about single ones: by hand.
_FEWEST_GRAINS = 10


class NetworkInput(NamedTuple):
    """The input of one kind of network.

    Attributes:
        architecture: Name in the registry.
        preparation: How a frame becomes the input.
    """

    architecture: str
    preparation: Preparation


class PreparedShot(NamedTuple):
    """A simulated shot as training sets store it, and the truth about it.

    Attributes:
        inputs: One for each NetworkInput asked for, as the registry's
            prepare_for_training makes it.
        label: By the number of visible spots.
        spots: float64 (n, 2), places (slow, fast) of all spots of protein, pixels.
        significance: float64 (n,), of the spots, standard deviations.
        powder: float64 (k, 2), places of visible spots of ice and salt, pixels.
    """

    inputs: list[Any]
    label: Label
    spots: NDArray[np.float64]
    significance: NDArray[np.float64]
    powder: NDArray[np.float64]


def simulate_dataset(
    jobs: Sequence[Job],
    preprocessing: Preprocessing,
    path: Path,
    nproc: int,
    title: str,
) -> Dataset:
    """Simulate shots, and prepare them as images for the networks of the paper.

    Args:
        jobs: The shots.
        preprocessing: Of the images.
        path: The memory-mapped file for them, 1.8 MB a shot.
        nproc: Number of processes.
        title: Of the progress bar.
    """
    images = allocate_images(path, len(jobs), preprocessing)
    dataset = Dataset(images, np.zeros(len(jobs), dtype=np.int64))
    shots = simulate_prepared(jobs, [NetworkInput("ke2018", preprocessing)], nproc)
    for i, shot in enumerate(track(shots, title, len(jobs), "shot")):
        (image,) = shot.inputs
        dataset.put(i, image, shot.label)
    return dataset


def simulate_candidates(
    jobs: Sequence[Job], search: CandidateSearch, nproc: int, title: str
) -> CandidateSet:
    """Simulate shots, and find their spot candidates, with the truth about each.

    Args:
        jobs: The shots.
        search: How candidates are searched for.
        nproc: Number of processes.
        title: Of the progress bar.
    """
    data = CandidateSet.empty(len(jobs), search.most)
    shots = simulate_prepared(jobs, [NetworkInput("spots", search)], nproc)
    for i, shot in enumerate(track(shots, title, len(jobs), "shot")):
        (candidates,) = shot.inputs
        data.put(i, candidates, shot.label, candidate_truth(candidates, shot))
    return data


def simulate_prepared(
    jobs: Sequence[Job], inputs: Sequence[NetworkInput], nproc: int
) -> Iterator[PreparedShot]:
    """Simulate each shot once, in order, and prepare it for several networks.

    Args:
        jobs: The shots.
        inputs: How each shot is prepared.
        nproc: Number of processes; the shots do not depend on it.
    """
    return map_shots(partial(_prepare_shot, inputs), jobs, nproc)


def as_frame(shot: Shot, experiment: str) -> Frame:
    """A shot of an experiment as all models take it: as it is read from its file."""
    drawn = find_experiment(experiment)
    detector = drawn.detector
    slow, fast = np.add(detector.beam_centre, drawn.centre_error)
    low, high = np.int32(detector.min_trusted), np.int32(detector.saturation - 1)
    data, mask, used = fill_trusted(shot.image, static_mask(detector), low, high)
    return Frame(data, mask, (float(slow), float(fast)), used)


def candidate_truth(candidates: Candidates, shot: PreparedShot) -> NDArray[np.float32]:
    """Which candidates of a shot are spots.

    Returns:
        float32 (n,), 1 for a visible spot, 0 for none, NaN where nothing is learned.
    """
    truth = match_spots(candidates, shot.spots, shot.significance)
    # A grain of ice looks like a spot: only its radius, beside others, tells it apart.
    if len(shot.powder) >= _FEWEST_GRAINS:
        return truth
    certain = np.full(len(shot.powder), np.inf)
    grains = match_spots(candidates, shot.powder, certain) == 1
    truth[grains & (truth == 0)] = np.nan
    return truth


def _prepare_shot(inputs: Sequence[NetworkInput], job: Job) -> PreparedShot:
    shot = simulate_job(job)
    frame = as_frame(shot, job[0])
    return PreparedShot(
        [
            find_architecture(name).prepare_for_training(frame, preparation)
            for name, preparation in inputs
        ],
        shot.label,
        shot.spots,
        shot.significance,
        shot.powder,
    )
