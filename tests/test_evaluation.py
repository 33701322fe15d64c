from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.evaluation import Judged, evaluate
from dials_cnn_screen.labels import read_annotations
from dials_cnn_screen.spot_counts import read_spot_counts

DEPOSITED = Path(__file__).resolve().parents[2] / "shared" / "cxidb76" / "annotation"

# Ke et al. (2018): cut in spots, class totals and images on both sides of the cut
# (Fig. 7, with the deposited files), and Table 3, "Automatic spotfinding", rows Hit or
# Maybe and Miss, columns Hit and Miss.
PUBLISHED = {
    "L498": (30, (148, 498, 1354), [[12.8, 87.2], [0.5, 99.5]]),
    "LG36": (20, (235, 57, 1708), [[77.7, 22.3], [2.6, 97.4]]),
    "LN84": (30, (806, 132, 1062), [[69.9, 30.1], [0.4, 99.6]]),
    "LN83": (15, (346, 63, 1591), [[85.8, 14.2], [0.1, 99.9]]),
    "LO19": (50, (730, 151, 1119), [[80.6, 19.4], [0.0, 100.0]]),
}


def deposited(experiment: str) -> Judged:
    folder = DEPOSITED / experiment
    if not folder.is_dir():
        pytest.skip(f"no deposited annotation in {folder}")
    annotations = read_annotations(folder / "expert_annotation.txt")
    counts = read_spot_counts(folder / "dials_annotation.txt").by_frame
    return Judged(
        labels=np.array([a.label for a in annotations]),
        p=None,
        unlike=np.zeros(len(annotations), bool),
        n_spots=np.array([counts.get(a.frame, 0) for a in annotations]),
    )


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_published_figures_of_spot_finding(experiment):
    min_spots, totals, percent = PUBLISHED[experiment]
    judged = deposited(experiment)
    found = evaluate(judged, np.zeros(len(judged), bool), 0.5, min_spots)
    assert tuple(found["expert"].values()) == totals
    assert found["spotfinder"]["confusion_percent"] == percent
