"""How well the out-of-distribution score tells shots of a detector never trained on.

Run as ``python -m dials_cnn_screen.studies.unknown_detectors FOLDER FAMILY ...`` after
``make_default.py FOLDER FAMILY ...``, which left these detector families out. Their
shots are the unknown ones; the known are of the other families, of experiments that the
model was neither trained nor calibrated on (those that chose its best epoch).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import area_under_curve
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.spots.training_set import CandidateSet, spot_features
from dials_cnn_screen.studies.make_default import (
    Split,
    family_of,
    simulated_candidates,
    split_of,
)
from dials_cnn_screen.util.intervals import format_percent


class Scores(NamedTuple):
    """Out-of-distribution scores of shots, float64 (n,) each."""

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]


def score_shots(
    model: Model, data: CandidateSet, names: NDArray[np.str_], left_out: list[str]
) -> Scores:
    """Score the shots of known and of unknown detectors.

    Args:
        model: Trained without the families.
        data: Candidates of all shots.
        names: Of the experiments of the shots, (n,).
        left_out: The families.

    Raises:
        ValueError: The model knows no distribution, or there are no shots of a kind.
    """
    if model.out_of_distribution is None:
        raise ValueError("the model has no out-of-distribution score")
    unknown = np.isin([family_of(name) for name in names], left_out)
    known = ~unknown & (split_of(names) == Split.VALIDATION)
    if not unknown.any() or not known.any():
        raise ValueError(f"there are no shots of {', '.join(left_out)}, or no others")
    score = model.out_of_distribution.score
    return Scores(
        *(
            score(spot_features(model.network, data, np.flatnonzero(which)))
            for which in (known, unknown)
        )
    )


def write_table(scores: Scores) -> str:
    """A Markdown table of what the scores tell apart."""
    together = np.concatenate(scores)
    area = area_under_curve(together, np.arange(len(together)) >= len(scores.known))
    rows = [
        f"| {kind} | {len(s)} | {format_percent(int((s > 1).sum()), len(s))} |"
        for kind, s in zip(("known", "unknown"), scores, strict=True)
    ]
    head = "| detectors | shots | out of distribution, % |\n|---|---|---|"
    return "\n".join([head, *rows, "", f"AUC of the score: {area:.3f}"])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(
        write_table(
            score_shots(
                load_model(folder / "default.safetensors"),
                *simulated_candidates(folder),
                sys.argv[2:],
            )
        )
    )
