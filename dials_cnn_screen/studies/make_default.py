"""Make the default model from nothing: simulate, find candidates, train, calibrate.

Run as ``python -m dials_cnn_screen.studies.make_default FOLDER [FAMILY ...]``. FOLDER
takes the candidates of the shots (130 kB each, 500 shots a file; a second run finds
the files that are there) and the model, default.safetensors. Copy that to
dials_cnn_screen/models/ to ship it. Detector families that are named are left out of
the training: their model is for evaluation on just those families. evaluate_models.py
tells how good a model is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import save_model
from dials_cnn_screen.simulation.detector_families import DETECTOR_FAMILIES
from dials_cnn_screen.simulation.random_experiments import (
    Job,
    plan_random_experiments,
)
from dials_cnn_screen.spots.architecture import SPOTS
from dials_cnn_screen.spots.out_of_distribution import fit_out_of_distribution
from dials_cnn_screen.spots.training_set import (
    CandidateSet,
    SpotSchedule,
    spot_features,
)
from dials_cnn_screen.studies.simulate_hits import with_simulated_hits
from dials_cnn_screen.studies.simulated_shots import simulate_candidates
from dials_cnn_screen.training.loop import calibrate, predict_logits, train
from dials_cnn_screen.util.threads import use_threads

SEARCH = SPOTS.preparation()
SCHEDULE = SpotSchedule()
# Shots of random experiments; those of Table 1 are kept for evaluation. The number is
# by hand: some two hours of work on two cores.
SHOTS, SHOTS_SEED = 22_000, 13
SEED = 1  # of the weights and the batches
_SHOTS_PER_FILE = 500


def make_default(folder: Path, left_out: Sequence[str]) -> None:
    """Write default.safetensors into a folder.

    Args:
        folder: Takes the model, and has or takes the candidates.
        left_out: Detector families that are not trained on.
    """
    data, names = simulated_candidates(folder)
    used = np.flatnonzero(~np.isin([family_of(name) for name in names], left_out))
    start = time.monotonic()
    split = split_of(names)[used]
    torch.manual_seed(SEED)
    use_threads(os.cpu_count() or 1)
    network = SPOTS.network()
    training, validation, held_out = (used[split == s] for s in Split)
    show = partial(print, flush=True)
    train(network, data, training, validation, SCHEDULE, SEED, show)
    model = Model(
        name="default" if not left_out else f"without {', '.join(left_out)}",
        network=network,
        architecture=SPOTS.name,
        preparation=SEARCH,
        calibration=calibrate(
            *predict_logits(network, data, held_out, "cpu"),
            source=f"{len(held_out)} simulated shots",
            shares=tuple(np.bincount(data.labels[training]) / len(training)),
        ),
        trained_on=f"{len(training)} simulated shots of random experiments",
        provenance={
            "program": "dials_cnn_screen.studies.make_default",
            "shots_seed": SHOTS_SEED,
            "seed": SEED,
            "left_out": list(left_out),
            "schedule": vars(SCHEDULE),
            "minutes_training": round((time.monotonic() - start) / 60),
            "processors": os.cpu_count(),
        },
        out_of_distribution=fit_out_of_distribution(
            spot_features(network, data, held_out)
        ),
    )
    calibration = with_simulated_hits(model, calibration_jobs(left_out))
    model = replace(model, calibration=calibration)
    save_model(folder / "default.safetensors", model)


def calibration_jobs(left_out: Sequence[str] = ()) -> list[Job]:
    """The shots that calibrate, without those of detector families left out."""
    jobs = plan_random_experiments(SHOTS, SHOTS_SEED)
    splits = split_of([name for name, _, _ in jobs])
    return [
        job
        for job, split in zip(jobs, splits, strict=True)
        if split == Split.CALIBRATION and family_of(job[0]) not in left_out
    ]


def family_of(name: str) -> str:
    """The detector family of a random experiment, from its name."""
    return name.split("-")[0]


class Split(IntEnum):
    """What shots are for."""

    TRAINING = 0
    VALIDATION = 1
    CALIBRATION = 2


def split_of(names: Sequence[str] | NDArray[np.str_]) -> NDArray[np.int64]:
    """The split of each shot: of ten experiments eight are for training.

    Args:
        names: (n,), of the experiments of the shots.

    Returns:
        (n,), values of Split; all shots of an experiment are in one split.
    """
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tenth = np.array([number[name] % 10 for name in names])
    return np.select(
        [tenth == 9, tenth == 8], [Split.VALIDATION, Split.CALIBRATION], Split.TRAINING
    )


def simulated_candidates(folder: Path) -> tuple[CandidateSet, NDArray[np.str_]]:
    """Simulate the shots, or find them in a folder.

    Returns:
        Candidates of all shots, and the name of each shot's experiment, (n,).
    """
    jobs = plan_random_experiments(SHOTS, SHOTS_SEED)
    chunks = [
        jobs[i : i + _SHOTS_PER_FILE] for i in range(0, len(jobs), _SHOTS_PER_FILE)
    ]
    sets = []
    for i, chunk in enumerate(chunks):
        path = folder / f"candidates_{i:03d}.npz"
        if not path.is_file():
            title = f"Shots, file {i + 1} of {len(chunks)}"
            found = simulate_candidates(chunk, SEARCH, os.cpu_count() or 1, title)
            np.savez(path, **vars(found))
        with np.load(path) as arrays:
            sets.append(CandidateSet(**arrays))
    joined = CandidateSet(
        *(np.concatenate([getattr(s, key) for s in sets]) for key in vars(sets[0]))
    )
    return joined, np.array([name for name, _, _ in jobs])


if __name__ == "__main__":
    unknown = set(sys.argv[2:]) - set(DETECTOR_FAMILIES)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not one of {', '.join(DETECTOR_FAMILIES)}")
    make_default(Path(sys.argv[1]), sys.argv[2:])
