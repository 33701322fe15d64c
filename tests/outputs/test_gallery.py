from __future__ import annotations

import base64

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs.gallery import (
    Failure,
    format_spots,
    make_picture,
    name_failures,
)
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, decide

NAME = ImageName("run.h5", 3)
PAPER = Decision()
HIT, MAYBE, MISS = (0.9, 0.08, 0.02), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7)


def result(p, n_spots=None, decision=PAPER, ood_score=None) -> ImageResult:
    spots = None if n_spots is None else np.full((n_spots, 2), 5)
    prediction = make_prediction(p, spots, ood_score)
    return decide(NAME, prediction, None, decision)


FAILED = decide(NAME, None, "no", PAPER)


@pytest.mark.parametrize(
    ("p", "n_spots", "text"),
    [
        # Class and number agree.
        (HIT, 10, "10 spots"),
        (HIT, 199, "199 spots"),
        (HIT, 200, "200 or more spots"),
        (MAYBE, 4, "4 spots"),
        (MAYBE, 9, "9 spots"),
        (MISS, 3, "3 spots"),
        (MISS, 1, "1 spot"),
        (MISS, 0, "0 spots"),
        # Fewer spots than the class has.
        (
            (0.2, 0.3, 0.5),
            0,
            "0 spots seen for certain; not a Miss since P(Hit) + P(Maybe) = 0.50",
        ),
        (
            HIT,
            1,
            "1 spot seen for certain; not a Miss since P(Hit) + P(Maybe) = 0.98",
        ),
        (HIT, 4, "4 spots seen for certain; likelier a Hit than a Maybe"),
        # More.
        (MAYBE, 10, "10 spots; likelier a Maybe than a Hit"),
        (MISS, 12, "12 spots; a Miss since P(Hit) + P(Maybe) = 0.30"),
        (MISS, 4, "4 spots; a Miss since P(Hit) + P(Maybe) = 0.30"),
        (MISS, 200, "200 or more spots; a Miss since P(Hit) + P(Maybe) = 0.30"),
        (MAYBE, 200, "200 or more spots; likelier a Maybe than a Hit"),
        # Nearly no Miss.
        (
            (0.1996, 0.3, 0.5004),
            4,
            "4 spots; a Miss since P(Hit) + P(Maybe) = 0.49",
        ),
    ],
)
def test_class_and_number_of_spots(p, n_spots, text):
    assert format_spots(result(p, n_spots), max_spots=200) == text


@pytest.mark.parametrize("p", [HIT, MAYBE])
def test_there_may_be_more_spots_than_are_found(p):
    assert format_spots(result(p, 3), max_spots=3) == "3 or more spots"


def test_nothing_of_spots_where_none_are_looked_for():
    assert format_spots(result(HIT), max_spots=None) == ""
    assert format_spots(FAILED, max_spots=200) == ""


@pytest.fixture
def show():
    """Function show(result, ...) -> Picture, of a frame of 100 x 120 pixels."""
    frame = Frame(np.eye(100, 120), np.ones((100, 120), dtype=bool), (40.0, 60.0))

    def show(shown: ImageResult, **others):
        return make_picture(shown, NAME, frame, 200, **others)

    return show


@pytest.mark.parametrize(
    ("shown", "caption"),
    [
        (result(HIT, 10), "10 spots, kept"),
        (result(MISS, 2), "2 spots"),
        (result(MISS, 2, Decision(keep_misses=1)), "2 spots, kept for the audit"),
        (result(MISS, 2, Decision(threshold=0.3)), "2 spots, kept"),
        (result(HIT), "kept"),
        (result(MISS), ""),
        (
            result(MISS, ood_score=2.5),
            "kept, since it is out of distribution, out-of-distribution score 2.50",
        ),
        (
            result((0.2, 0.3, 0.5), 0),
            "0 spots seen for certain; not a Miss since P(Hit) + P(Maybe) = 0.50, kept",
        ),
    ],
)
def test_caption(show, shown, caption):
    picture = show(shown)
    assert picture.caption == caption
    assert picture.title == shown.label.title
    assert picture.expert == ""


def test_where_nothing_is_kept_the_caption_does_not_say_so(show):
    picture = show(result(HIT, 10), expert=Label.MISS, note="index 7", kept_shown=False)
    assert picture.caption == "10 spots, index 7"
    assert (picture.title, picture.expert) == ("Hit", "Miss")


def test_the_middle_of_the_frame_is_shown(show):
    picture = show(result(HIT))
    assert picture.corner == (40 - 720, 60 - 720)
    assert base64.b64decode(picture.jpeg).startswith(b"\xff\xd8")


def test_failures_have_the_names_that_are_shown():
    names = [ImageName("a/run.h5", 3), ImageName("b/run.h5", 3)]
    assert name_failures([result(HIT), FAILED], names) == [Failure(names[1], "no")]
