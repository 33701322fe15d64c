"""How good a model is on fresh simulated shots, as in Table 3.

Run as ``python -m dials_cnn_screen.models.judge [MODEL]``. The shots have the shares of
Hit, Maybe and Miss of the deposited data and seeds that no training used.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dials_cnn_screen.decision import classify, probabilities
from dials_cnn_screen.metrics import (
    confusion_counts,
    hit_or_miss,
    row_percent,
    success_rate,
)
from dials_cnn_screen.model_file import Model, load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import plan_run, simulate_dataset
from dials_cnn_screen.training import class_scores

SHOTS = 600  # of each experiment, as many as the paper's test parts
SEED = 31_000
# Sensitivity and specificity in percent of the paper's networks, each trained and
# tested on one experiment by expert labels (Table 3).
PUBLISHED = {
    "L498": (69.0, 93.1),
    "LG36": (91.1, 98.2),
    "LN84": (98.5, 89.9),
    "LN83": (98.5, 96.9),
    "LO19": (94.8, 96.0),
}


def judge(model: Model, name: str, seed: int) -> np.ndarray:
    """Confusion counts (3, 3) of a model on fresh shots of one experiment."""
    jobs = plan_run(name, SHOTS, EXPERIMENTS[name].images, seed)
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate_dataset(
            jobs,
            model.preprocessing,
            Path(folder) / "images.npy",
            os.cpu_count(),
            partial(tqdm, total=len(jobs), desc=name, disable=None),
        )
        scores, labels = class_scores(model.network, dataset, np.arange(len(jobs)))
    p = probabilities(scores.numpy(), model.calibration.temperature)
    return confusion_counts(labels.numpy(), np.array([classify(row) for row in p]))


def main(model_path: str) -> None:
    """Print a row for each experiment, beside the published figures."""
    model = load_model(model_path)
    print(
        "| experiment | Hit, Maybe, Miss | sensitivity, % | specificity, % "
        "| three classes right, % | Table 3, % |\n|---|---|---|---|---|---|"
    )
    for i, name in enumerate(EXPERIMENTS):
        counts = judge(model, name, SEED + i)
        percent = row_percent(hit_or_miss(counts))
        classes = ", ".join(str(n) for n in counts.sum(axis=1))
        published = " / ".join(str(x) for x in PUBLISHED[name])
        print(
            f"| {name} | {classes} | {percent[0, 0]:.1f} | {percent[1, 1]:.1f} "
            f"| {success_rate(counts):.1f} | {published} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "default")
