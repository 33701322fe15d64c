"""Make the default model from nothing: simulate, train, calibrate, judge, write.

Run as ``python -m dials_cnn_screen.models.make_default FOLDER``. FOLDER takes the
prepared shots (11 GB, found again by a second run), the model (default.safetensors)
and its results (default.md), which are then copied beside this file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dials_cnn_screen.dataset import Dataset
from dials_cnn_screen.labels import Label
from dials_cnn_screen.metrics import confusion_counts, hit_or_miss, row_percent
from dials_cnn_screen.model_file import Model, save_model
from dials_cnn_screen.network import build_network
from dials_cnn_screen.preprocessing import Preprocessing
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import plan_run, simulate_dataset
from dials_cnn_screen.training import Schedule, calibrate, class_scores, train

ARCHITECTURE = "ke2018"
PREPROCESSING = Preprocessing()
SCHEDULE = Schedule(epochs=40, batches=50)
SHOTS = {"training": 800, "validation": 200, "test": 200}  # of each experiment
SEEDS = {"training": 1, "validation": 2, "test": 3}
SEED = 1  # of the weights and the batches


def make_default(folder: Path) -> None:
    """Make the model and its table of results in folder."""
    start = time.monotonic()
    parts = {name: simulate_part(name, folder) for name in SHOTS}
    simulated = time.monotonic()
    torch.manual_seed(SEED)
    network = build_network(ARCHITECTURE)
    joined = Dataset(
        _Joined(parts["training"].images, parts["validation"].images),
        np.concatenate([parts["training"].labels, parts["validation"].labels]),
    )
    n = len(parts["training"].labels)
    training, validation = np.arange(n), np.arange(n, len(joined.labels))
    train(network, joined, training, validation, SCHEDULE, SEED, print)
    trained = time.monotonic()
    calibration = calibrate(
        *class_scores(network, joined, validation),
        source=f"{len(validation)} simulated shots of the five experiments",
    )
    model = Model(
        name="default",
        network=network,
        architecture=ARCHITECTURE,
        preprocessing=PREPROCESSING,
        calibration=calibration,
        trained_on=f"{n} simulated shots of {', '.join(EXPERIMENTS)}",
        provenance={
            "program": "dials_cnn_screen.models.make_default",
            "shots_of_each_experiment": SHOTS,
            "seeds": SEEDS,
            "schedule": SCHEDULE.__dict__,
            "seconds_simulating": round(simulated - start),
            "seconds_training": round(trained - simulated),
            "processors": os.cpu_count(),
        },
    )
    save_model(folder / "default.safetensors", model)


if __name__ == "__main__":
    make_default(Path(sys.argv[1]))
