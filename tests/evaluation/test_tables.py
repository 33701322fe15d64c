from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.evaluation.figures import LabelledResults, evaluate
from dials_cnn_screen.evaluation.tables import list_rules, make_tables
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults, decide

HIT, MISS = (0.9, 0.08, 0.02), (0.1, 0.1, 0.8)


def screened(p, ood_score=None) -> ScreeningResults:
    """Results of these probabilities, None where an image could not be classified."""
    images = [
        decide(
            ImageName("x.h5", i),
            row and make_prediction(row, ood_score=ood_score),
            None if row else "no",
            Decision(),
        )
        for i, row in enumerate(p, start=1)
    ]
    return ScreeningResults(ModelSummary("m", "0"), Decision(), images)


def results(cnn=True, n_spots=True, min_spots=5, n_training=0, ood_score=None) -> dict:
    """Of four images, a hit, a maybe and two misses; twice with a training split."""
    repeat = 2 if n_training else 1
    labelled = LabelledResults(
        np.tile([0, 1, 2, 2], repeat),
        screened([HIT, MISS, MISS, None] * repeat, ood_score) if cnn else None,
        np.tile([40, 4, 0, 7], repeat) if n_spots else None,
    )
    training = np.arange(4 * repeat) < n_training
    found = evaluate(labelled, training, min_spots if n_spots else None)
    seconds = {"reading": 0.25, "preparing": 0.01, "classifying": 0.002}
    found["audit"] = None
    if cnn:
        found["cnn"]["seconds"] = seconds
    if n_spots:
        found["spotfinder"]["seconds"] = None
    return found


def table(title: str, found: dict) -> list[list[str]]:
    (rows,) = (t.rows for t in make_tables(found) if t.title.startswith(title))
    return rows


def test_titles():
    assert [t.title.split(",")[0] for t in make_tables(results())] == [
        "Agreement with the expert",
        "Confusion matrices",
        "At equal specificity",
        "Three classes",
        "Reliability of the probabilities",
        "Time",
    ]


def test_rows_are_as_long_as_their_headers():
    for found in (results(), results(cnn=False), results(n_spots=False)):
        for t in make_tables(found):
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
    (note,) = (t.note for t in make_tables(found) if t.title == "Three classes")
    assert "class for 50.0 (15.0-85.0)% of the images" in note
    assert "1 image that could not be classified is not shown" in note


def agreement_note(found: dict) -> str:
    (note,) = (t.note for t in make_tables(found) if t.title.startswith("Agreement"))
    return note


def test_images_kept_whatever_their_probabilities_are_told():
    note = agreement_note(results())
    assert note.endswith(" The CNN also keeps 1 image that could not be classified.")
    assert (
        "keeps 1 image that could not be classified and 3 images that are out of the "
        "distribution of its training." in agreement_note(results(ood_score=2.0))
    )
    assert "keeps" not in agreement_note(results(cnn=False))


def test_time():
    assert table("Time", results()) == [["CNN", "0.250", "0.012"]]


def test_every_cut_has_its_row():
    names = [name for name, _ in list_rules(results(n_training=4))]
    assert names == [
        "CNN, P(Hit) + P(Maybe) of 0.5 or more",
        "5 or more spots",
        "4 or more spots, the best cut on the training split",
        "1 or more spots, the CNN's specificity on the training split",
    ]


@pytest.mark.parametrize(
    ("options", "n"), [({"cnn": False}, 1), ({"n_spots": False}, 1), ({}, 2)]
)
def test_only_what_there_is(options, n):
    assert len(table("Agreement", results(**options))) == n


def test_no_cut_in_spots():
    found = results(cnn=False, min_spots=None)
    assert list(list_rules(found)) == []
    assert [t.title for t in make_tables(found)] == ["Independent of the cut"]
