from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.evaluation.metrics import (
    area_under_curve,
    best_cut,
    calibration_error,
    cut_at_specificity,
    reliability,
    roc_curve,
    sensitivity_at,
)
from dials_cnn_screen.labels.confusion import cohen_kappa, confusion_counts
from dials_cnn_screen.util.intervals import area_interval


def test_area_under_curve():
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    # Of the four pairs, three are in order and one is equal.
    positive = np.array([False, False, True, True])
    assert area_under_curve(scores, positive) == (3 + 0.5) / 4
    assert area_under_curve(-scores, positive) == 1 - (3 + 0.5) / 4
    assert np.isnan(area_under_curve(scores, np.ones(4, bool)))


def test_sensitivity_at_specificity():
    scores = np.array([9, 7, 5, 5, 5, 3, 3, 0])
    positive = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    # A cut of 7 keeps 2 of 5 and no miss, 5 keeps 4 and a miss, 3 all and two misses.
    assert sensitivity_at(1.0, scores, positive) == pytest.approx(2 / 5)
    assert sensitivity_at(2 / 3, scores, positive) == pytest.approx(4 / 5)
    assert sensitivity_at(1 / 3, scores, positive) == pytest.approx(1)
    # Half-way between two cuts.
    assert sensitivity_at(5 / 6, scores, positive) == pytest.approx(3 / 5)
    assert sensitivity_at(0.0, scores, positive) == 1


def test_sensitivity_at_specificity_of_scores_that_tell_nothing():
    assert sensitivity_at(0.9, np.zeros(4), np.arange(4) < 2) == pytest.approx(0.1)


def test_sensitivity_at_specificity_takes_the_best_of_equally_specific_cuts():
    scores, positive = np.array([4, 3, 2, 1]), np.array([True, True, False, False])
    assert sensitivity_at(1.0, scores, positive) == pytest.approx(1)


def test_sensitivity_at_specificity_without_both_kinds():
    assert np.isnan(sensitivity_at(0.9, np.arange(3), np.ones(3, bool)))
    assert np.isnan(sensitivity_at(0.9, np.arange(3), np.zeros(3, bool)))


def test_calibration_error():
    p = np.array([0.2] * 5 + [0.9] * 10)
    right = np.array([True] + [False] * 4 + [True] * 9 + [False])
    assert calibration_error(p, right) == pytest.approx(0)
    # Ten images that are 0.9 sure, and never right.
    right[5:] = False
    assert calibration_error(p, right) == pytest.approx(0.9 * 10 / 15)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


# Spots of four hits and of four misses.
SPOTS = np.array([9, 30, 40, 50, 0, 2, 9, 12])
HITS = np.arange(8) < 4


def test_roc_curve():
    wrong, right = roc_curve(SPOTS, HITS)
    np.testing.assert_allclose(wrong, [0, 0, 0, 0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(right, [0, 0.25, 0.5, 0.75, 0.75, 1, 1, 1])
    area = np.sum(np.diff(wrong) * (right[1:] + right[:-1]) / 2)
    assert area == pytest.approx(area_under_curve(SPOTS, HITS))


def test_roc_curve_of_one_kind():
    wrong, right = roc_curve(np.array([1, 2]), np.array([True, True]))
    assert np.isnan(wrong).all()
    np.testing.assert_allclose(right, [0, 0.5, 1])


@pytest.mark.parametrize(
    ("specificity", "cut"),
    [(0, 1), (0.25, 1), (0.26, 3), (0.5, 3), (0.75, 10), (1, 13)],
)
def test_cut_at_specificity(specificity, cut):
    assert cut_at_specificity(specificity, SPOTS, HITS) == cut
    misses = SPOTS[~HITS]
    assert np.mean(misses < cut) >= specificity
    assert cut == 1 or np.mean(misses < cut - 1) < specificity


def test_best_cut():
    # 3 of 4 hits and no miss.
    assert best_cut(SPOTS, HITS) == 30
    # Any cut from 4 to 20 is as good; the lowest that is a count is taken.
    assert (
        best_cut(np.array([20, 20, 3, 0]), np.array([True, True, False, False])) == 20
    )


def test_best_cut_keeps_no_image_without_spots():
    assert best_cut(np.array([0, 0, 0, 5]), np.array([True, True, False, False])) == 1


def test_reliability():
    p = np.array([0.0, 0.05, 0.55, 0.58, 1.0])
    positive = np.array([False, True, False, True, True])
    bins = reliability(p, positive, n_bins=10)
    assert [(b.low, b.high, b.images, b.positive) for b in bins] == [
        (0.0, 0.1, 2, 1),
        (0.5, 0.6, 2, 1),
        (0.9, 1.0, 1, 1),
    ]
    np.testing.assert_allclose([b.mean_p for b in bins], [0.025, 0.565, 1.0])
    error = (2 * (0.5 - 0.025) + 2 * (0.565 - 0.5)) / 5
    assert calibration_error(p, positive, n_bins=10) == pytest.approx(error)


def test_calibration_of_nothing():
    nothing = np.array([])
    assert reliability(nothing, nothing) == []
    assert np.isnan(calibration_error(nothing, nothing))


def test_interval_of_an_area_holds_the_true_one_19_times_in_20():
    rng = np.random.default_rng(5)
    positive = np.arange(90) < 30
    # Normal scores, 1.5 deviations apart: an area of 0.8556.
    held = []
    for _ in range(400):
        scores = rng.normal(size=90) + 1.5 * positive
        low, high = area_interval(area_under_curve(scores, positive), 30, 60)
        held.append(low < 0.8556 < high)
    assert 0.92 < np.mean(held) < 0.98


@pytest.fixture(params=[0, 1, 2])
def ties(request):
    """Integer scores with many ties, and which of them are positive."""
    rng = np.random.default_rng(request.param)
    positive = rng.random(300) < 0.3
    return rng.poisson(4, 300) + 2 * positive, positive


def test_area_under_curve_is_that_of_scikit_learn(ties):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, positive = ties
    expected = sklearn.roc_auc_score(positive, scores)
    assert area_under_curve(scores, positive) == pytest.approx(expected, abs=1e-12)


def test_roc_curve_is_that_of_scikit_learn(ties):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, positive = ties
    found = roc_curve(scores, positive)
    expected = sklearn.roc_curve(positive, scores, drop_intermediate=False)[:2]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_cohen_kappa_is_that_of_scikit_learn(ties):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, positive = ties
    one, other = scores % 3, (scores + positive) % 3
    found = cohen_kappa(confusion_counts(one, other))
    assert found == pytest.approx(sklearn.cohen_kappa_score(one, other), abs=1e-12)
