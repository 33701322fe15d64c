from __future__ import annotations

import pytest

from dials_cnn_screen.labels.label import (
    Label,
    count_labels,
    format_counts,
    label_from_spots,
)


def test_values_are_columns_of_the_network():
    assert [(label.value, label.title, label.key) for label in Label] == [
        (0, "Hit", "hit"),
        (1, "Maybe", "maybe"),
        (2, "Miss", "miss"),
    ]


@pytest.mark.parametrize(
    ("n_spots", "label"),
    [
        (0, Label.MISS),
        (3, Label.MISS),
        (4, Label.MAYBE),
        (9, Label.MAYBE),
        (10, Label.HIT),
        (500, Label.HIT),
    ],
)
def test_label_from_spots(n_spots, label):
    assert label_from_spots(n_spots) is label


def test_every_class_is_counted():
    counts = count_labels([2, Label.HIT, 2])
    assert list(counts.items()) == [(Label.HIT, 1), (Label.MAYBE, 0), (Label.MISS, 2)]
    assert list(count_labels([]).values()) == [0, 0, 0]
    with pytest.raises(ValueError, match="3 is not a valid Label"):
        count_labels([3])


def test_counts_as_text():
    assert format_counts(count_labels([0, 1, 2, 2])) == "1 Hit, 1 Maybe, 2 Miss"
