from __future__ import annotations

import math

import pytest

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.viewer.session import Keys, Session

NAMES = [ImageName("/data/a.h5", n) for n in range(1, 6)]


class Clock:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def labels(tmp_path):
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        yield labels


def test_a_label_goes_on_to_the_next_image(labels):
    session = Session(labels)
    assert (session.position, session.done, session.left) == (1, 0, 5)
    session.choose(Label.HIT)
    session.choose(Label.MISS)
    assert str(session.name) == "a.h5 [3]"
    assert labels.get(0) is Label.HIT
    assert labels.get(1) is Label.MISS
    assert (session.position, session.done, session.left) == (3, 2, 3)


def test_previous_and_next_stop_at_the_ends(labels):
    session = Session(labels)
    session.previous()
    assert session.position == 1
    for _ in range(9):
        session.next()
    assert session.position == 5
    assert session.following() is None
    session.choose(Label.HIT)
    assert session.position == 5
    assert session.label is Label.HIT


def test_undo_goes_back_and_restores(labels):
    session = Session(labels)
    session.choose(Label.HIT)
    session.previous()
    session.choose(Label.MISS)
    session.choose(Label.MAYBE)
    assert session.undo()
    assert (session.position, session.label) == (2, None)
    assert session.undo()
    assert (session.position, session.label) == (1, Label.HIT)
    assert session.undo()
    assert session.label is None
    assert not session.undo()
    assert labels.labels == {}


def test_clear_can_be_undone(labels):
    session = Session(labels)
    session.clear()
    assert not session.undo()
    session.choose(Label.HIT)
    session.previous()
    session.clear()
    assert (session.position, session.label) == (1, None)
    session.undo()
    assert session.label is Label.HIT


def test_next_unlabelled_goes_round(labels):
    for i in (0, 2, 3):
        labels.set(i, Label.MISS)
    session = Session(labels)
    assert session.position == 2  # resumed at the first without a label
    session.next_unlabelled()
    assert session.position == 5
    session.choose(Label.MISS)
    assert session.next_unlabelled()
    assert session.position == 2
    session.choose(Label.MISS)
    assert not session.next_unlabelled()
    assert session.left == 0


def test_order_of_some_images(labels):
    session = Session(labels, order=[4, 0, 2])
    assert str(session.name) == "a.h5 [5]"
    assert session.following() == 0
    session.choose(Label.HIT)
    assert str(session.name) == "a.h5 [1]"
    assert (session.position, session.done, session.left) == (2, 1, 2)
    labels.set(1, Label.HIT)  # not in the order
    assert session.done == 1


def test_following_the_viewer_out_of_the_order(labels):
    session = Session(labels, order=[4, 0])
    session.go_to(3)
    assert session.position == 0
    session.choose(Label.MAYBE)
    assert labels.get(3) is Label.MAYBE
    assert str(session.name) == "a.h5 [5]"


def test_rate_is_of_the_median_interval(labels):
    clock = Clock()
    session = Session(labels, clock=clock)
    assert session.rate is None
    assert session.minutes_left is None
    session.choose(Label.HIT)
    for seconds in (2, 600, 2):  # with a break
        clock.now += seconds
        session.choose(Label.MISS)
    assert session.rate == 30
    assert session.left == 1
    assert session.minutes_left == pytest.approx(1 / 30)


def test_reorder_keeps_what_is_labelled_or_shown(labels):
    session = Session(labels, [4, 3, 2, 1, 0])
    session.choose(Label.HIT)
    assert session.current == 3
    session.reorder([0.4, 0.9, 0.55, 0.5, 0.5])
    assert session.order == [4, 3, 2, 0, 1]
    assert (session.current, session.position, session.following()) == (3, 2, 2)
    session.choose(Label.MISS)
    assert session.current == 2
    session.reorder([math.nan, 0.1, 0.9, 0, 0])
    assert session.order == [4, 3, 2, 1, 0]
    assert session.left == 3


def test_reorder_goes_on_from_an_image_before_labelled_ones(labels):
    session = Session(labels)
    session.go_to(2)
    session.choose(Label.HIT)
    session.go_to(0)
    session.reorder([0.4, 0.9, 0.5, 0.7, 0.6])
    assert session.order == [2, 0, 4, 3, 1]
    assert (session.current, session.following()) == (0, 4)
    # Nor does it move an image that has a label.
    session.go_to(2)
    session.reorder([0.4, 0.5, 0.5, 0.7, 0.9])
    assert session.order == [2, 1, 0, 3, 4]


def test_keys():
    keys = Keys(clear="X")
    assert keys.find_action("J") == "hit"
    assert keys.find_action("k") == "maybe"
    assert keys.find_action("l") == "miss"
    assert keys.find_action("x") == "clear"
    assert keys.find_action("c") is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hit": "n"}, "keys.hit and keys.next are both 'n'"),
        ({"hit": "P"}, "keys.hit and keys.previous are both 'p'"),
        ({"hit": "F1"}, "keys.hit='F1' is not a single letter"),
        ({"hit": ""}, "keys.hit='' is not a single letter"),
        ({"hit": None}, "keys.hit='None' is not a single letter"),
        ({"hit": " "}, "is not a single letter"),
    ],
)
def test_keys_that_cannot_be(keys, message):
    with pytest.raises(ValueError, match=message):
        Keys(**keys)
