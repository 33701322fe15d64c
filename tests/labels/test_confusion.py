from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.labels.confusion import (
    cohen_kappa,
    confusion_counts,
    hit_or_miss,
    row_percent,
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


def test_cohen_kappa():
    # By hand: 0.7 agree, 0.5 by chance.
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.diag([3, 4, 5])) == 1
    assert cohen_kappa(np.array([[4, 4], [4, 4]])) == 0
    assert cohen_kappa(np.array([[0, 5], [5, 0]])) == -1
    assert np.isnan(cohen_kappa(np.array([[7, 0], [0, 0]])))
    assert np.isnan(cohen_kappa(np.zeros((3, 3), int)))


@pytest.mark.parametrize("seed", range(5))
def test_confusion_and_kappa_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = np.random.default_rng(seed).integers(3, size=(2, 50))
    counts = confusion_counts(labels, predicted)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, predicted))
    assert cohen_kappa(counts) == pytest.approx(
        metrics.cohen_kappa_score(labels, predicted)
    )
    assert success_rate(counts) == pytest.approx(
        100 * metrics.accuracy_score(labels, predicted)
    )
