from __future__ import annotations

import json

import pytest

from dials_cnn_screen.viewer.view import View


def test_notes_and_back():
    view = View(
        zoom=0, beam=(0.25, 0.75), brightness=40, levels={"1 panels of 9 x 9": 12.5}
    )
    notes = json.loads(json.dumps({"view": view.as_notes()}))
    assert View.from_notes(notes) == view
    assert View.from_notes({"view": View().as_notes()}) == View()


def test_usual_view_is_that_of_the_paper():
    view = View()
    assert 2**view.zoom == 2
    assert view.beam[0] == 0.5
    assert view.beam[1] > 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"zoom": "x"},
        {"levels": 3},
        {"beam": [0.5]},
        {"beam": [0.5, float("nan")]},
        {"beam": [1e300, 0.5]},
        {"brightness": 0},
        {"zoom": float("inf")},
    ],
)
def test_broken_notes_give_the_usual_view(change):
    stored = View(brightness=7).as_notes()
    assert View.from_notes({"view": stored}).brightness == 7
    assert View.from_notes({"view": {**stored, **change}}) == View()


@pytest.mark.parametrize("notes", [{}, {"view": None}, {"view": []}])
def test_no_notes_give_the_usual_view(notes):
    assert View.from_notes(notes) == View()


@pytest.mark.parametrize("level", [0, -3, float("nan"), float("inf")])
def test_level_that_is_none_is_never_stored(level):
    view = View(zoom=0, levels={"a": level, "b": 12.5})
    assert view.as_notes()["levels"] == {"b": 12.5}
    stored = {**View(zoom=0).as_notes(), "levels": {"a": level, "b": 12.5}}
    assert View.from_notes({"view": stored}) == view
