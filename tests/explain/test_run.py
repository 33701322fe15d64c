from __future__ import annotations

import pytest

pytest.importorskip("dials")
pytest.importorskip("sklearn")

from dials_cnn_screen.explain.run import choose_images, list_named


def test_all_images_are_screened_if_few():
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


def test_named_images():
    assert list_named(None, None, 3) == set()
    assert list_named([2, 0, 2], 1, 3) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"image=3: there are 3 images, 0 to 2"):
        list_named([0, 3], None, 3)
    with pytest.raises(ValueError, match=r"nearest_to=4: there are 3 images, 0 to 2"):
        list_named(None, 4, 3)
