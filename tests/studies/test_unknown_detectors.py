from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.unknown_detectors import (
    Scores,
    score_shots,
    write_table,
)

SEARCH = CandidateSearch(most=24)


@pytest.fixture(scope="module")
def shots():
    """Blank frames of 20 experiments: of pilatus; of epix, with a broken row."""
    data, names = CandidateSet.empty(20, SEARCH.most), []
    for i in range(20):
        image = np.random.default_rng(i).poisson(20, (96, 96)).astype(np.float32)
        if i < 9:
            image[10, ::4] += 5000
        found = find_candidates(image, np.ones(image.shape, bool), (48, 48), SEARCH)
        data.put(i, found, 2)
        names.append(f"{'epix' if i < 9 else 'pilatus'}-{i}")
    return data, np.array(names)


def test_the_unknown_score_higher(shots):
    scores = score_shots(load_model("default"), *shots, ["epix"])
    # Of the known the last of ten experiments, which chose the best epoch.
    assert (len(scores.known), len(scores.unknown)) == (2, 9)
    assert scores.unknown.min() > scores.known.max()


def test_table():
    lines = write_table(Scores(np.array([0.5, 0.9]), np.array([0.7, 1.2]))).splitlines()
    assert lines[2].startswith("| known | 2 | 0.0 ")
    assert lines[3].startswith("| unknown | 2 | 50.0 ")
    assert lines[-1] == "AUC of the score: 0.750"


def test_models_and_families_that_do_not_fit(shots):
    model = load_model("default")
    with pytest.raises(ValueError, match="no shots of cspad"):
        score_shots(model, *shots, ["cspad"])
    with pytest.raises(ValueError, match="has no out-of-distribution score"):
        score_shots(replace(model, out_of_distribution=None), *shots, ["epix"])
