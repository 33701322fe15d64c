from __future__ import annotations

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.explain.results import by_doubt, choose_images, wrong


def image(index, p_hit, p_maybe, class_, label=None, error=None) -> dict:
    return {
        "index": index,
        "p_hit": p_hit,
        "p_maybe": p_maybe,
        "p_miss": None if p_hit is None else 1 - p_hit - p_maybe,
        "class": class_,
        "label": label,
        "error": error,
    }


RESULTS = {
    "images": [
        image(0, 0.9, 0.05, "Hit", "Hit"),
        image(1, 0.1, 0.3, "Miss", "Maybe"),
        image(2, None, None, None, "Hit", "no"),
        image(3, 0.0, 0.01, "Miss", "Hit"),
        image(4, 0.2, 0.31, "Maybe", "Miss"),
        image(5, 0.3, 0.5, "Maybe", "Hit"),
        image(6, 0.7, 0.2, "Hit", None),
    ]
}


def indices(images) -> list[int]:
    return [entry["index"] for entry in images]


def test_most_doubtful_first():
    assert indices(by_doubt(RESULTS)) == [4, 1, 5, 6, 0, 3]


def test_wrong_by_kind_the_worst_first():
    found = {title: indices(images) for title, images in wrong(RESULTS).items()}
    assert found == {
        "Lost: taken for a Miss": [3, 1],
        "False alarm: a Miss to the expert": [4],
        "Hit and Maybe mixed up": [5],
    }


def test_all_images_are_looked_at_if_few():
    assert choose_images(5, 5, [], 0) == [0, 1, 2, 3, 4]


def test_of_many_images_some_are_drawn():
    chosen = choose_images(100, 10, [7, 99], 0)
    assert len(chosen) == len(set(chosen)) == 10
    assert chosen == sorted(chosen)
    assert {7, 99} <= set(chosen)
    assert chosen == choose_images(100, 10, [7, 99], 0)
    assert chosen != choose_images(100, 10, [7, 99], 1)


def test_named_images_come_first():
    assert choose_images(100, 1, [3, 5], 0) == [3, 5]
