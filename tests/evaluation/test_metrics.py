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
from dials_cnn_screen.labels.confusion import (
    cohen_kappa,
    confusion_counts,
    hit_or_miss,
    row_percent,
    success_rate,
)
from dials_cnn_screen.util.intervals import (
    area_interval,
    bootstrap_interval,
    difference_interval,
    wilson_interval,
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


def test_bootstrap_interval_of_a_fraction_is_the_binomial_one():
    rng = np.random.default_rng(3)
    positive = np.arange(800) < 400
    kept = rng.random(800) < 0.3
    low, high = bootstrap_interval(lambda i: kept[i][positive[i]].mean(), positive)
    rate = kept[positive].mean()
    half = 1.96 * np.sqrt(rate * (1 - rate) / 400)
    np.testing.assert_allclose([low, high], [rate - half, rate + half], atol=0.01)


def test_bootstrap_keeps_the_number_of_each_kind():
    positive = np.arange(10) < 3
    interval = bootstrap_interval(
        lambda i: [positive[i].sum(), len(i), len(set(i))], positive, n_samples=50
    )
    np.testing.assert_array_equal(interval[:, 0], [3, 3])
    np.testing.assert_array_equal(interval[:, 1], [10, 10])
    assert interval[0, 2] < 10
    again = bootstrap_interval(
        lambda i: [positive[i].sum(), len(i), len(set(i))], positive, n_samples=50
    )
    np.testing.assert_array_equal(interval, again)


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


def test_interval_of_an_area_at_its_ends():
    """Nothing wrong among few images is no proof that nothing ever will be."""
    low, high = area_interval(1.0, 28, 42)
    assert high == 1.0
    assert 0.85 < low < 0.97
    # A coin's, with its mirror image.
    np.testing.assert_allclose(area_interval(0.0, 28, 42), (0, 1 - low), atol=1e-9)
    low, high = area_interval(0.5, 10, 10)
    assert low + high == pytest.approx(1)


def test_interval_of_a_difference():
    # 56 of 70 and 48 of 80 (Newcombe, 1998, Table II, a, method 10).
    first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    low, high = difference_interval(0.8, first, 0.6, second)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_cohen_kappa():
    # Cohen's own example would do; this one is by hand: 0.7 agree, 0.5 by chance.
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.diag([3, 4, 5])) == 1
    assert cohen_kappa(np.array([[4, 4], [4, 4]])) == 0
    assert cohen_kappa(np.array([[0, 5], [5, 0]])) == -1
    assert np.isnan(cohen_kappa(np.array([[7, 0], [0, 0]])))
    assert np.isnan(cohen_kappa(np.zeros((3, 3), int)))
