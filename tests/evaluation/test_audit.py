from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from dials_cnn_screen.evaluation.audit import Audit, audit_rejected
from dials_cnn_screen.evaluation.tables import _audit
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults, decide

HIT, MISS = (0.9, 0.1, 0.0), (0.0, 0.1, 0.9)


def run_of(probabilities, keep_misses) -> ScreeningResults:
    decision = Decision(keep_misses=keep_misses)
    images = [
        decide(ImageName("x.h5", i), make_prediction(p), None, decision)
        for i, p in enumerate(probabilities, start=1)
    ]
    return ScreeningResults(ModelSummary("m", "0"), decision, images)


def test_labelled_images_that_were_kept_at_random_count():
    results = run_of([HIT] * 5 + [MISS] * 200, keep_misses=0.2)
    drawn = [i for i, image in enumerate(results.images) if image.kept][5:]
    assert 20 < len(drawn) < 60
    # A hit that was kept as such, a miss that was not drawn, and all but one drawn.
    others = [0, next(i for i in range(5, 205) if i not in drawn)]
    chosen = [*others, *drawn[1:]]
    names = [ImageName("data/x.h5", i + 1) for i in chosen]
    labels = np.full(len(names), Label.MISS)
    labels[[0, 1, 2, 3]] = Label.HIT, Label.HIT, Label.HIT, Label.MAYBE
    audit = audit_rejected(results, names, labels)
    assert audit == Audit(200, len(drawn), len(drawn) - 1, 2)


def test_without_labels_of_audited_images_there_is_none():
    results = run_of([HIT, MISS, MISS], keep_misses=0.0)
    names = [ImageName("x.h5", i) for i in (1, 2, 3)]
    assert audit_rejected(results, names, np.array([0, 2, 2])) is None


@pytest.mark.parametrize(
    ("hits", "n", "limit"),
    # 1 - 0.05^(1 / n); the others from tables of the binomial distribution.
    [(0, 1, 0.95), (0, 59, 0.04950), (1, 10, 0.39416), (10, 10, 1.0)],
)
def test_upper_limit(hits, n, limit):
    assert Audit(1000, 100, n, hits).upper_limit == pytest.approx(limit, abs=2e-5)


def test_limit_holds_in_19_of_20_runs():
    rng = np.random.default_rng(0)
    drawn = rng.binomial(120, 0.03, 400)
    held = [Audit(1000, 200, 120, int(hits)).upper_limit >= 0.03 for hits in drawn]
    assert np.mean(held) > 0.93


def test_table():
    table = _audit({"audit": Audit(1000, 60, 59, 0).as_json()})
    assert table.rows == [["1000", "60", "59", "0", "4.95", "50"]]
    assert "95% upper limit" in table.note
