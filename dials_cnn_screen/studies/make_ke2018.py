"""Make the model of the paper's network from nothing: simulate, train, calibrate.

Run as ``python -m dials_cnn_screen.studies.make_ke2018 FOLDER``. FOLDER takes the
prepared shots (1.8 MB each; a second run finds them) and the model, ke2018.safetensors.
Copy that to dials_cnn_screen/models/ to ship it. evaluate_models.py tells how good it
is.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import Dataset, ImageSchedule
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import save_model
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import plan_run
from dials_cnn_screen.studies.simulated_shots import simulate_dataset
from dials_cnn_screen.training.loop import calibrate, predict_logits, train
from dials_cnn_screen.util.threads import keep_freed_memory

ARCHITECTURE = "ke2018"
PREPROCESSING = Preprocessing()
# By hand: a seventh of the batches of section 3.4.
SCHEDULE = ImageSchedule(epochs=45, batches=40)
# Shots of each experiment, a third of each class, and their seeds: by hand.
TRAINING_SHOTS, TRAINING_SEED = 700, 1
VALIDATION_SHOTS, VALIDATION_SEED = 140, 2
SEED = 1  # of the weights and the batches


def make_ke2018(folder: Path) -> None:
    """Write ke2018.safetensors into a folder, which has or takes the prepared shots."""
    dataset = simulated_shots(folder)
    n_training = TRAINING_SHOTS * len(EXPERIMENTS)
    training = np.arange(n_training)
    validation = np.arange(n_training, len(dataset.labels))
    torch.manual_seed(SEED)
    network = find_architecture(ARCHITECTURE).network()
    start = time.monotonic()
    keep_freed_memory()
    train(network, dataset, training, validation, SCHEDULE, SEED, print)
    model = Model(
        name="ke2018",
        network=network,
        architecture=ARCHITECTURE,
        preparation=PREPROCESSING,
        calibration=calibrate(
            *predict_logits(network, dataset, validation, "cpu"),
            source=f"{len(validation)} simulated shots of {', '.join(EXPERIMENTS)}",
        ),
        trained_on=f"{n_training} simulated shots of {', '.join(EXPERIMENTS)}",
        provenance={
            "program": "dials_cnn_screen.studies.make_ke2018",
            "training_seed": TRAINING_SEED,
            "validation_seed": VALIDATION_SEED,
            "seed": SEED,
            "schedule": vars(SCHEDULE),
            "training_minutes": round((time.monotonic() - start) / 60),
            "processors": os.cpu_count(),
        },
    )
    save_model(folder / "ke2018.safetensors", model)


def simulated_shots(folder: Path) -> Dataset:
    """Training shots of all experiments, then validation shots of all.

    They are simulated, or found in the folder.
    """
    path, labels = folder / "images.npy", folder / "labels.npy"
    if labels.is_file():
        return Dataset(np.load(path, mmap_mode="r"), np.load(labels))
    jobs = _plan_shots(TRAINING_SHOTS, TRAINING_SEED) + validation_jobs()
    nproc = os.cpu_count() or 1
    dataset = simulate_dataset(jobs, PREPROCESSING, path, nproc, "Shots")
    np.save(labels, dataset.labels)
    return dataset


def validation_jobs() -> list[Job]:
    """The shots that choose the epoch and calibrate."""
    return _plan_shots(VALIDATION_SHOTS, VALIDATION_SEED)


def _plan_shots(n_shots: int, seed: int) -> list[Job]:
    """So many of each experiment."""
    return [
        job
        for i, name in enumerate(EXPERIMENTS)
        for job in plan_run(name, n_shots, (1, 1, 1), seed=100 * seed + i)
    ]


if __name__ == "__main__":
    make_ke2018(Path(sys.argv[1]))
