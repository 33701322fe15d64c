"""What each input of the spot network is worth: the same shots, with inputs left out.

Run as ``python -m dials_cnn_screen.studies.ablation FOLDER``, the folder in which
make_default.py has left the candidates of its shots. Each network is trained on the
training split of the first SHOTS of them, and evaluated on the split by which
make_default.py calibrates. This tells which network is better, not how good the model
is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import area_under_curve, sensitivity_at
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import p_keep, softmax
from dials_cnn_screen.spots.candidates import LEVELS
from dials_cnn_screen.spots.configuration import SpotNetworkConfig
from dials_cnn_screen.spots.network import SpotNetwork
from dials_cnn_screen.spots.training_set import CandidateSet, SpotSchedule
from dials_cnn_screen.studies.make_default import (
    SEED,
    Split,
    simulated_candidates,
    split_of,
)
from dials_cnn_screen.training.loop import Epoch, predict_logits, train
from dials_cnn_screen.util.threads import use_threads

# A fifth of the shots of make_default.py and half of its epochs, by hand: to save time.
SHOTS = 4000
SCHEDULE = SpotSchedule(epochs=20)
# Where sensitivities are compared: by hand; 400 shots can't tell higher ones apart.
SPECIFICITY = 0.95
# Columns of CandidateSet.scalars, in the order of spots.network.describe.
NOISE, RADIUS = np.s_[..., 2:4], np.s_[..., 4:5]
NEIGHBOURHOOD, ALONG_RING = np.s_[..., 6:10], np.s_[..., 10:11]


def without(field: str, columns: Any) -> Callable[[CandidateSet], CandidateSet]:
    """What sets some columns of a field of a CandidateSet to 0."""

    def blank(data: CandidateSet) -> CandidateSet:
        values = getattr(data, field).copy()
        values[columns] = 0
        return replace(data, **{field: values})

    return blank


def strongest(n: int) -> Callable[[CandidateSet], CandidateSet]:
    """What leaves the n strongest candidates of each frame."""

    def cut(data: CandidateSet) -> CandidateSet:
        # The strongest are in the first slots.
        fields = ("patches", "scalars", "present", "truth")
        return replace(data, **{name: getattr(data, name)[:, :n] for name in fields})

    return cut


def unchanged(data: CandidateSet) -> CandidateSet:
    """All inputs."""
    return data


FULL = SpotNetworkConfig()
NARROW = SpotNetworkConfig(patch=32, candidate=24, context=24, head=32)
ABLATIONS = {
    "full network": (FULL, unchanged),
    "layers half as wide": (NARROW, unchanged),
    "96 of the 192 candidates": (FULL, strongest(96)),
    "48 of the 192 candidates": (FULL, strongest(48)),
    "without patches": (FULL, without("patches", np.s_[...])),
    "without frame features": (FULL, without("frame", np.s_[...])),
    "without neighbourhood features": (FULL, without("scalars", NEIGHBOURHOOD)),
    "without brightness along the ring": (FULL, without("scalars", ALONG_RING)),
    "without distance from the beam": (FULL, without("scalars", RADIUS)),
    "without noise of the background": (FULL, without("scalars", NOISE)),
}


def main(folder: Path) -> None:
    """Print a row for each network, and for counting strong candidates."""
    data, names = simulated_candidates(folder)
    data = CandidateSet(*(values[:SHOTS] for values in vars(data).values()))
    split = split_of(names[:SHOTS])
    training, validation, test = (np.flatnonzero(split == s) for s in Split)
    hits = data.labels[test] != Label.MISS
    use_threads(os.cpu_count() or 1)
    print(f"| network | AUC | kept at {SPECIFICITY:.0%} rejected, % |\n|---|---|---|")

    def row(name: str, scores: NDArray) -> None:
        area = area_under_curve(scores, hits)
        kept = 100 * sensitivity_at(SPECIFICITY, scores, hits)
        print(f"| {name} | {area:.3f} | {kept:.1f} |", flush=True)

    for i, level in enumerate(LEVELS):
        row(f"number of maxima over {level:g}", data.frame[test, i])
    for name, (config, change) in ABLATIONS.items():
        torch.manual_seed(SEED)
        network, changed = SpotNetwork(config), change(data)
        train(network, changed, training, validation, SCHEDULE, SEED, _ignore)
        logits, _ = predict_logits(network, changed, test, "cpu")
        row(name, p_keep(softmax(logits.numpy())))


def _ignore(_epoch: Epoch) -> None:
    pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
