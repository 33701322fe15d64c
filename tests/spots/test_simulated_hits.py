from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.spots.eye import MODEL_SIGMA, Eye
from dials_cnn_screen.spots.simulated_hits import (
    SimulatedHits,
    best_spots,
    pop_simulated_hits,
)

OWN = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]
# Twelve spots of 20 sigma, five of 8, and twelve of 8; the fourth and the tenth best.
BEST = [[20.0, 20.0], [8.0, 0.0], [8.0, 8.0]]


def hits() -> SimulatedHits:
    frames = [
        CandidateScores(np.full(n, sigma), np.ones(n))
        for n, sigma in ((12, 20.0), (5, 8.0), (12, 8.0))
    ]
    return SimulatedHits.of(frames, np.array(OWN), np.array(BEST))


def test_which_are_hits_depends_on_the_eye():
    sharp, dull = Eye(6.0, spread=0.01), Eye(12.0, spread=0.01)
    assert hits().weights(sharp, Label.MAYBE).tolist() == pytest.approx([1, 1, 1])
    assert hits().weights(sharp, Label.HIT).tolist() == pytest.approx([1, 0, 1])
    assert hits().weights(dull, Label.MAYBE).tolist() == pytest.approx([1, 0, 0])
    # By the model's own classes, so far as these count.
    shared = Eye(12.0, spread=0.01, own_share=0.25)
    assert hits().weights(shared, Label.MAYBE).tolist() == pytest.approx(
        [1, 0.25, 0.25]
    )
    assert hits().weights(shared, Label.HIT).tolist() == pytest.approx([1, 0, 0.25])


def test_scores_are_those_of_the_eye_wherever_it_looks():
    eye = Eye(12.0)
    scores = hits().scores(eye)
    expected = [
        eye.probabilities([f], np.zeros((1, 3)))[0, :2].sum() for f in hits().candidates
    ]
    np.testing.assert_allclose(scores, expected)
    assert scores[0] > 0.9 > 0.5 > scores[2]
    # The frames have no places, and many sizes.
    narrow = Eye(12.0, region_of_interest=(0, 9, 0, 9))
    np.testing.assert_array_equal(hits().scores(narrow), scores)


def test_best_spots():
    assert best_spots(np.array([])) == (0, 0)
    assert best_spots(np.array([9.0, 8, 7, 6])) == (6, 0)
    assert best_spots(np.arange(20.0, 0, -1)) == (17, 11)


def test_model_files_have_them():
    before = hits()
    arrays = {"other": np.zeros(3), **before.arrays()}
    after = pop_simulated_hits(arrays)
    assert list(arrays) == ["other"]
    np.testing.assert_array_equal(after.own, before.own.astype(np.float32))
    np.testing.assert_array_equal(after.best, before.best)
    for one, other in zip(after.candidates, before.candidates, strict=True):
        np.testing.assert_array_equal(one.significance, other.significance)
        np.testing.assert_array_equal(one.p_spot, other.p_spot)
    assert pop_simulated_hits(arrays) is None
    nothing = SimulatedHits.of([], np.empty((0, 3)), np.empty((0, 2)))
    assert pop_simulated_hits(nothing.arrays()).candidates == []


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("n_candidates", np.array([12, 5, 11]), "not of one length"),
        ("n_candidates", np.array([30, -1, 0]), "not of one length"),
        ("n_candidates", np.array([24, 5]), "not of one length"),
        ("own", np.full((3, 3), np.nan), "have no probabilities"),
        ("best", np.full((3, 2), np.inf), "no significance"),
        ("best", np.full((3, 2), -1.0), "no significance"),
        ("p_spot", np.full(29, 2.0), "probability of a candidate"),
        ("significance", np.full(29, np.nan), "not finite"),
    ],
)
def test_damaged_ones_are_refused(name, values, message):
    arrays = hits().arrays() | {f"simulated_hits.{name}": values}
    with pytest.raises(ValueError, match=message):
        pop_simulated_hits(arrays)


def test_those_of_the_default_model_are_its_calibration_hits():
    calibration = load_model("default").calibration
    simulated = calibration.simulated
    assert (simulated.best[:, 0] >= MODEL_SIGMA).all()
    own = np.sort(simulated.own[:, :2].sum(axis=1))
    np.testing.assert_allclose(own, calibration.hit_scores, atol=1e-6)
    sure = np.sort(simulated.own[simulated.best[:, 1] >= MODEL_SIGMA, :2].sum(axis=1))
    np.testing.assert_allclose(sure, calibration.sure_scores, atol=1e-6)
