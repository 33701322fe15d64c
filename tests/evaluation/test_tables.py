from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.evaluation.figures import Judged, evaluate
from dials_cnn_screen.evaluation.tables import rules, tables

HIT, MAYBE, MISS = (0.9, 0.08, 0.02), (0.2, 0.4, 0.4), (0.1, 0.1, 0.8)


def results(p=True, n_spots=True, min_spots=5, n_training=0, **changes) -> dict:
    """Of four images, a hit, a maybe and two misses; twice with a training part."""
    repeat = 2 if n_training else 1
    judged = Judged(
        np.tile([0, 1, 2, 2], repeat),
        np.tile([HIT, MISS, MISS, (np.nan,) * 3], (repeat, 1)) if p else None,
        np.zeros(4 * repeat, bool),
        np.tile([40, 4, 0, 7], repeat) if n_spots else None,
    )
    training = np.arange(4 * repeat) < n_training
    found = evaluate(judged, training, 0.5, min_spots if n_spots else None)
    seconds = {"reading": 0.25, "preparing": 0.01, "classifying": 0.002}
    if p:
        found["cnn"]["seconds"] = seconds
    if n_spots:
        found["spotfinder"]["seconds"] = None
    return found


def table(title: str, found: dict) -> list[list[str]]:
    (rows,) = (t.rows for t in tables(found) if t.title.startswith(title))
    return rows


def test_titles():
    assert [t.title.split(",")[0] for t in tables(results())] == [
        "Agreement with the expert",
        "Confusion matrices",
        "At one specificity",
        "Three classes",
        "Reliability of the probabilities",
        "Time",
    ]


def test_rows_are_as_long_as_their_headers():
    for found in (results(), results(p=False), results(n_spots=False)):
        for t in tables(found):
            assert {len(row) for row in t.rows} == {len(t.headers)}
            assert all(isinstance(cell, str) for row in t.rows for cell in row)


def test_table_3():
    rows = table("Confusion", results())
    assert rows[0][1:] == ["Hit or Maybe", "50.0", "50.0", "2"]
    assert rows[1] == ["", "Miss", "50.0", "50.0", "2"]
    assert rows[2][0] == "5 or more spots"


def test_three_classes():
    found = results()
    assert table("Three", found)[1] == ["Maybe", "0 (0.0)", "0 (0.0)", "1 (100.0)"]
    (note,) = (t.note for t in tables(found) if t.title == "Three classes")
    assert "50.0 (15.0-85.0)% of the images" in note
    assert "1 that were not judged are not shown" in note


def test_kept_without_being_judged_is_told():
    (note,) = (t.note for t in tables(results()) if t.title.startswith("Agreement"))
    assert "The CNN keeps 1 that could not be judged, too." in note


def test_time():
    assert table("Time", results()) == [["CNN", "0.250", "0.012"]]


def test_every_cut_has_its_row():
    names = [name for name, _ in rules(results(n_training=4))]
    assert names == [
        "CNN, P(Hit) + P(Maybe) of 0.5 or more",
        "5 or more spots",
        "4 or more spots, the best cut on the training part",
        "1 or more spots, the CNN's specificity on the training part",
    ]


@pytest.mark.parametrize(
    ("options", "n"), [({"p": False}, 1), ({"n_spots": False}, 1), ({}, 2)]
)
def test_only_what_there_is(options, n):
    assert len(table("Agreement", results(**options))) == n


def test_no_cut_in_spots():
    found = results(p=False, min_spots=None)
    assert list(rules(found)) == []
    assert [t.title for t in tables(found)] == ["Whatever the cut"]
