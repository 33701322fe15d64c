"""What each part of the spot network is worth: the same shots, with parts left out.

Run as ``python -m dials_cnn_screen.studies.ablation FOLDER``, the folder in which
make_default.py has left the candidates of its shots. Each design is trained on the
first SHOTS of them, and judged by those that make_default.py calibrates by. They say
which design is better, not how good the model is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.evaluation.metrics import area_under_curve, sensitivity_at
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import keep_score, probabilities
from dials_cnn_screen.spots.candidates import LEVELS
from dials_cnn_screen.spots.network import SpotNetwork, SpotNetworkConfig
from dials_cnn_screen.spots.training_set import (
    CandidateSet,
    SpotSchedule,
)
from dials_cnn_screen.studies.make_default import (
    SEED,
    Part,
    part_of,
    simulated_candidates,
)
from dials_cnn_screen.training.loop import class_scores, train
from dials_cnn_screen.util.threads import use_threads

SHOTS = 4000
SCHEDULE = SpotSchedule(epochs=20)
SPECIFICITY = 0.95
# Columns of CandidateSet.scalars, as spot_network.describe has them.
NOISE, RADIUS, COMPANY = np.s_[..., 2:4], np.s_[..., 4:5], np.s_[..., 6:9]


def without(part: str, columns: tuple) -> Callable[[CandidateSet], CandidateSet]:
    """What sets some columns of a part of the candidates to 0."""

    def blank(data: CandidateSet) -> CandidateSet:
        values = getattr(data, part).copy()
        values[columns] = 0
        return replace(data, **{part: values})

    return blank


def unchanged(data: CandidateSet) -> CandidateSet:
    return data


NARROW = SpotNetworkConfig(patch=32, candidate=24, context=24, head=32)
DESIGNS = {
    "as it is": (SpotNetworkConfig(), unchanged),
    "half as wide": (NARROW, unchanged),
    "without patches": (SpotNetworkConfig(), without("patches", np.s_[...])),
    "without the frame's numbers": (SpotNetworkConfig(), without("frame", np.s_[...])),
    "without company": (SpotNetworkConfig(), without("scalars", COMPANY)),
    "without distance from the beam": (SpotNetworkConfig(), without("scalars", RADIUS)),
    "without noise of the background": (SpotNetworkConfig(), without("scalars", NOISE)),
}


def main(folder: Path) -> None:
    """Print a row for each design, and for counting strong candidates."""
    data, names = simulated_candidates(folder)
    data = CandidateSet(*(values[:SHOTS] for values in vars(data).values()))
    part = part_of(names[:SHOTS])
    training, validation, judged = (np.flatnonzero(part == p) for p in Part)
    hits = data.labels[judged] != Label.MISS
    use_threads(os.cpu_count())
    print(f"| design | AUC | kept at {SPECIFICITY:.0%} rejected, % |\n|---|---|---|")

    def row(name: str, scores: np.ndarray) -> None:
        area = area_under_curve(scores, hits)
        kept = 100 * sensitivity_at(SPECIFICITY, scores, hits)
        print(f"| {name} | {area:.3f} | {kept:.1f} |", flush=True)

    for i, level in enumerate(LEVELS):
        row(f"number of maxima over {level:g}", data.frame[judged, i])
    for name, (config, change) in DESIGNS.items():
        torch.manual_seed(SEED)
        network, changed = SpotNetwork(config), change(data)
        train(network, changed, training, validation, SCHEDULE, SEED, _silent)
        scores = class_scores(network, changed, judged)[0].numpy()
        row(name, keep_score(probabilities(scores)))


def _silent(*_epoch: float) -> None:
    pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
