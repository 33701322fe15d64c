"""Make the default model from nothing: simulate, find candidates, train, calibrate.

Run as ``python -m dials_cnn_screen.studies.make_default FOLDER [FAMILY ...]``. FOLDER
takes the candidates of the shots (130 kB each, in parts of 500 shots; a second run
finds those that are there) and the model, default.safetensors, which is then copied
beside this file. With names of detector families, none of these is trained on: their
model is to be judged on just those. How good a model is, judge.py beside this one
tells.
"""

from __future__ import annotations

import os
import sys
import time
from enum import IntEnum
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dials_cnn_screen.models.model_file import Model, save_model
from dials_cnn_screen.models.registry import build_network
from dials_cnn_screen.simulation.detector_families import DETECTOR_FAMILIES
from dials_cnn_screen.simulation.random_experiments import plan_random_experiments
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.out_of_distribution import fit_familiarity
from dials_cnn_screen.spots.training_set import (
    CandidateSet,
    SpotSchedule,
    spot_features,
)
from dials_cnn_screen.studies.simulated_shots import simulate_candidates
from dials_cnn_screen.training.loop import calibrate, class_scores, train
from dials_cnn_screen.util.threads import use_threads

ARCHITECTURE = "spots"
SEARCH = CandidateSearch()
SCHEDULE = SpotSchedule()
# Shots of random experiments; those of Table 1 are kept for judging. Of every ten
# experiments one is for validation and another for calibration.
SHOTS, SHOTS_SEED = 20_000, 13
SEED = 1  # of the weights and the batches
_PART = 500


def make_default(folder: Path, left_out: list[str]) -> None:
    """Write default.safetensors into folder, without the families left out."""
    data, names = simulated_candidates(folder)
    kept = np.flatnonzero(~np.isin([family_of(name) for name in names], left_out))
    start = time.monotonic()
    part = part_of(names)[kept]
    torch.manual_seed(SEED)
    use_threads(os.cpu_count())
    network = build_network(ARCHITECTURE)
    training, validation, held = (kept[part == p] for p in Part)
    show = partial(print, flush=True)
    train(network, data, training, validation, SCHEDULE, SEED, show)
    model = Model(
        name="default" if not left_out else f"without {', '.join(left_out)}",
        network=network,
        architecture=ARCHITECTURE,
        preprocessing=SEARCH,
        calibration=calibrate(
            *class_scores(network, data, held),
            source=f"{len(held)} simulated shots",
        ),
        trained_on=f"{len(training)} simulated shots of random experiments",
        provenance={
            "program": "dials_cnn_screen.studies.make_default",
            "shots_seed": SHOTS_SEED,
            "seed": SEED,
            "left_out": left_out,
            "schedule": vars(SCHEDULE),
            "minutes_training": round((time.monotonic() - start) / 60),
            "processors": os.cpu_count(),
        },
        familiarity=fit_familiarity(spot_features(network, data, held)),
    )
    save_model(folder / "default.safetensors", model)


def family_of(name: str) -> str:
    """The detector family of a random experiment, from its name."""
    return name.split("-")[0]


class Part(IntEnum):
    """What shots are for."""

    TRAINING = 0
    VALIDATION = 1
    CALIBRATION = 2


def part_of(names: np.ndarray) -> np.ndarray:
    """What the shots of the experiments of these names are for, int (n,)."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tenth = np.array([number[name] % 10 for name in names])
    return np.select(
        [tenth == 9, tenth == 8], [Part.VALIDATION, Part.CALIBRATION], Part.TRAINING
    )


def simulated_candidates(folder: Path) -> tuple[CandidateSet, np.ndarray]:
    """Candidates of all shots, and the name of each shot's experiment."""
    jobs = plan_random_experiments(SHOTS, SHOTS_SEED)
    parts = [jobs[i : i + _PART] for i in range(0, len(jobs), _PART)]
    sets = []
    for i, part in enumerate(parts):
        path = folder / f"candidates_{i:03d}.npz"
        if not path.is_file():
            title = f"part {i + 1} of {len(parts)}"
            track = partial(tqdm, desc=title, total=len(part), mininterval=10)
            found = simulate_candidates(part, SEARCH, os.cpu_count(), track)
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
