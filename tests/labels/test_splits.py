from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.labels.label import count_labels
from dials_cnn_screen.labels.splits import (
    Splits,
    check_splits,
    split_at_random,
    split_by_position,
)

HIT, MAYBE, MISS = 0, 1, 2


@pytest.mark.parametrize(
    ("numbers", "fractions", "sizes"),
    [
        ((400, 100, 1500), (0.5, 0.2, 0.3), [1000, 400, 600]),
        ((0, 0, 10), (5, 2, 3), [5, 2, 3]),
        ((4, 0, 3), (0.5, 0.5, 0), [4, 3, 0]),
        ((1, 1, 1), (0, 0, 1), [0, 0, 3]),
        ((0, 0, 0), (0.5, 0.2, 0.3), [0, 0, 0]),
        # Of a class of one or two, the training split has the first.
        ((1, 2, 0), (0.5, 0.2, 0.3), [2, 0, 1]),
    ],
)
def test_random_split_has_each_image_once(numbers, fractions, sizes):
    labels = np.repeat([HIT, MAYBE, MISS], numbers)
    splits = split_at_random(labels, fractions, seed=1)
    assert [len(split) for split in splits] == sizes
    assert sorted(np.concatenate(splits)) == list(range(len(labels)))
    for split in splits:
        assert (np.diff(split) > 0).all()


def test_random_split_has_its_share_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 20, 70]))
    splits = split_at_random(labels, (0.5, 0.2, 0.3), seed=1)
    counts = [list(count_labels(labels[split]).values()) for split in splits]
    assert counts == [[5, 10, 35], [2, 4, 14], [3, 6, 21]]


def test_random_split_is_drawn_by_its_seed():
    labels = np.zeros(100, int)
    first, again, other = (
        split_at_random(labels, (0.5, 0.2, 0.3), s)[0] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(50))


def test_split_by_position_in_each_group():
    splits = split_by_position(["a"] * 10 + ["b"] * 10, (0.5, 0.2, 0.3))
    assert splits.training.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert splits.validation.tolist() == [5, 6, 15, 16]
    assert splits.test.tolist() == [7, 8, 9, 17, 18, 19]


def test_split_into_nothing():
    with pytest.raises(ValueError, match="leave no split any images"):
        split_at_random(np.zeros(10, int), (0, 0, 0), 0)
    with pytest.raises(ValueError, match="leave no split any images"):
        split_by_position([""] * 10, (0, 0, 0))


LABELS = np.array([HIT] * 5 + [MAYBE] + [MISS] * 10)


def splits(training, validation):
    return Splits(*(np.array(p, int) for p in (training, validation, [])))


def test_few_images_of_a_class_are_remarked_on():
    assert check_splits(LABELS, splits([0, 1, 2, 3, 5, *range(6, 12)], [4, 5, 14])) == [
        "1 of the 11 training images is Maybe"
    ]
    assert check_splits(LABELS, splits([0, 1, 2, 3, *range(6, 12)], [4, 14])) == [
        "none of the 10 training images is Maybe",
        "none of the 2 validation images is Maybe",
    ]


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        ([], [0, 7], "the training split has no images; label more"),
        ([0, 7], [], "the validation split has no images; label more"),
        ([6, 7], [0, 8], "all 2 images of the training split are Miss: .* are Hits"),
        ([0, 7], [1, 5], "all 2 .* validation split are Hit or Maybe: .* are Misses"),
    ],
)
def test_splits_that_teach_nothing(training, validation, message):
    with pytest.raises(ValueError, match=message):
        check_splits(LABELS, splits(training, validation))
