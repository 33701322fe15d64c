from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import label_from_spots
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import decide
from dials_cnn_screen.spots.eye import class_probabilities, pad
from dials_cnn_screen.viewer.eye import reorder_by_eye
from dials_cnn_screen.viewer.session import Session

# Strong spots of each image; all have twenty weak ones too, which the model counts.
COUNTS = [0, 2, 5, 8, 12, 30, 1, 0, 15, 6, 25, 3, 40, 4, 0, 3]
NAMES = [ImageName("/data/a.h5", n + 1) for n in range(len(COUNTS))]
N_LABELLED = 12


def answer(i: int):
    significance = np.repeat([25.0, 8.0], [COUNTS[i], 20])
    scores = CandidateScores(significance, np.ones(len(significance)))
    p = class_probabilities(pad([scores]), 5.5, 0.05)[0]
    return decide(NAMES[i], make_prediction(p, candidates=scores), None, Decision())


@pytest.fixture
def answers():
    return {NAMES[i]: answer(i) for i in range(len(COUNTS))}


@pytest.fixture
def labels(tmp_path):
    """Twelve labels of an expert who sees the strong spots alone."""
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        for i in range(N_LABELLED):
            labels.set(i, label_from_spots(COUNTS[i]))
        yield labels


def test_images_in_doubt_come_first(labels, answers):
    session = Session(labels)
    told = reorder_by_eye(session, answers)
    assert told.startswith("By 12 images labelled in ")
    # The labelled ones, and the one in sight.
    assert session.order[: N_LABELLED + 1] == list(range(N_LABELLED + 1))
    # Four strong spots are at the line between Maybe and Miss, forty and none are not.
    assert set(session.order[N_LABELLED + 1 : N_LABELLED + 3]) == {13, 15}
    assert session.order[-1] == 14
    assert session.current == N_LABELLED
    notes = json.loads((labels.path.parent / "labels.txt.json").read_text())
    assert notes["order"] == "eye"


def test_the_eye_looks_where_the_expert_does(labels, answers):
    session = Session(labels)
    with pytest.raises(ValueError, match="do not say where the candidates are"):
        reorder_by_eye(session, answers, [0, 9, 0, 9])
    # Of the images in doubt the first has its spots elsewhere, and is a sure Miss.
    for name, found in answers.items():
        scores = found.prediction.candidates
        places = np.zeros((len(scores.p_spot), 2), np.int32)
        places[:, 1] = 50 * (name == NAMES[13])
        placed = CandidateScores(scores.significance, scores.p_spot, places)
        answers[name] = replace(
            found, prediction=replace(found.prediction, candidates=placed)
        )
    reorder_by_eye(session, answers, [0, 9, 0, 9])
    assert session.order[N_LABELLED + 1] == 15


def test_images_without_an_answer_come_last(labels, answers):
    del answers[NAMES[13]]
    answers[NAMES[15]] = decide(NAMES[15], None, "broken", Decision())
    session = Session(labels)
    reorder_by_eye(session, answers)
    assert session.order[-2:] == [13, 15]


def test_only_images_of_the_order_are_shown(labels, answers):
    session = Session(labels, [12, 14, 3, 15])
    reorder_by_eye(session, answers)
    assert session.order == [3, 12, 15, 14]
    assert session.current == 12


def test_too_few_labels_leave_the_order(labels, answers):
    for i in range(3, N_LABELLED):
        labels.set(i, None)
    session = Session(labels)
    with pytest.raises(ValueError, match="3 of the images that are labelled in"):
        reorder_by_eye(session, answers)
    assert session.order == list(range(len(COUNTS)))
