from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.labels.orders import (
    diverse_order,
    random_order,
    reorder,
    uncertain_order,
)


@pytest.mark.parametrize(
    ("order", "fixed", "expected"),
    [
        ([0, 1, 2, 3, 4], set(), [3, 1, 0, 4, 2]),
        ([4, 3, 2, 1, 0], {0, 3}, [3, 0, 1, 4, 2]),
        ([2, 4, 1], {1}, [1, 4, 2]),  # a part of all images
        ([2, 1], {1, 2, 3}, [2, 1]),
        ([], {1}, []),
    ],
)
def test_reorder(order, fixed, expected):
    p_keep = [0.9, 0.3, math.nan, 0.55, 0.05]
    assert reorder(order, fixed, p_keep) == expected


def test_random_order():
    assert sorted(random_order(50, seed=1)) == list(range(50))
    assert random_order(50, seed=1) == random_order(50, seed=1)
    assert random_order(50, seed=1) != random_order(50, seed=2)


def test_nearest_to_the_decision_first():
    assert uncertain_order([0.9, np.nan, 0.45, 0.0, 0.6]) == [2, 4, 0, 3, 1]


def test_equally_uncertain_images_stay_in_order():
    assert uncertain_order([np.nan, 0.75, 0.25, np.nan, 0.75]) == [1, 2, 4, 0, 3]
    assert uncertain_order([]) == []


def test_first_the_mean_then_the_farthest():
    features = np.array([[0.0], [1.0], [4.0], [np.nan], [10.0]])
    # The mean is 3.75, then 10 is 6 from 4, 0 is 4 from 4, and 1 is 1 from 0.
    assert diverse_order(features) == [2, 4, 0, 1, 3]


def test_each_feature_counts_alike():
    features = np.array([[0.0, 0.0], [1.0, 100.0], [0.5, 5000.0], [0.9, 9000.0]])
    assert diverse_order(features) == diverse_order(features * [1000, 1])
    assert diverse_order(features) == diverse_order(features + np.array([0, 7]))


def test_diverse_order_of_equal_images_is_still_an_order():
    features = np.array([[0.5, 1.0]] * 5 + [[np.nan, np.nan]])
    order = diverse_order(features)
    assert sorted(order) == list(range(6))
    assert order[-1] == 5
    assert diverse_order(features[5:]) == [0]
    assert diverse_order(features[:0]) == []
