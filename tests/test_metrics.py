from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.metrics import (
    area_under_curve,
    calibration_error,
    confusion_counts,
    hit_or_miss,
    row_percent,
    sensitivity_at,
    success_rate,
)

COUNTS = np.array([[5, 2, 1], [3, 4, 6], [7, 8, 64]])


def test_confusion_counts():
    labels = np.array([0, 0, 1, 2, 2, 2])
    predicted = np.array([0, 1, 1, 2, 2, 0])
    counts = confusion_counts(labels, predicted)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_confusion_counts_of_nothing():
    assert confusion_counts([], []).tolist() == [[0] * 3] * 3


def test_hit_and_maybe_together():
    assert hit_or_miss(COUNTS).tolist() == [[14, 7], [15, 64]]


def test_rows_add_up_to_100_percent():
    percent = row_percent(hit_or_miss(COUNTS))
    np.testing.assert_allclose(
        percent, [[100 * 14 / 21, 100 * 7 / 21], [100 * 15 / 79, 100 * 64 / 79]]
    )


def test_row_of_a_class_without_images():
    percent = row_percent(np.array([[0, 0], [1, 3]]))
    np.testing.assert_array_equal(percent, [[np.nan, np.nan], [25, 75]])


def test_success_rate_is_equation_10():
    assert success_rate(COUNTS) == pytest.approx(73.0)
    assert success_rate(hit_or_miss(COUNTS)) == pytest.approx(78.0)


def test_success_rate_of_nothing():
    assert np.isnan(success_rate(np.zeros((3, 3), int)))


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
