from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import LossOf
from dials_cnn_screen.screening.eye import ChosenEye
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.spots.eye import class_probabilities, pad
from dials_cnn_screen.studies import eye_tables as module
from dials_cnn_screen.studies.outcomes import Outcome


@pytest.fixture
def shots(monkeypatch) -> list[Outcome]:
    """An expert who sees strong spots alone, and shots with weak ones and strong.

    Each shot has as many strong spots at the edge, where the expert does not look.
    """
    monkeypatch.setattr(module, "EYE_DRAWS", 5)
    rng = np.random.default_rng(0)

    def shot(n_strong: int) -> Outcome:
        significance = np.repeat([25.0, 7.0], [n_strong, 15])
        places = np.tile([700, 960], (n_strong + 15, 1))
        scores = CandidateScores(significance, np.ones(n_strong + 15), places)
        p = class_probabilities(pad([scores]), 5.5, 0.05)[0]
        prediction = make_prediction(p, candidates=scores)
        kind = "crystal" if n_strong else "blank"
        return Outcome(n_strong, 0.0, label_from_spots(n_strong), kind, prediction)

    return [shot(n) for n in rng.choice([0, 2, 6, 30], 240)]


def test_regions():
    assert module.regions("eiger") == {"all": None}
    found = module.regions("LO19")
    x0, x1, y0, y1 = found["window"]
    # 945 x 520 pixels, the beam at the lower centre (section 3.3.1).
    assert (x1 - x0, y1 - y0) == (945, 521)
    slow, fast = np.mgrid[y0:y1:40, x0:x1:40].reshape(2, -1).astype(float)
    eye = EXPERIMENTS["LO19"].eye
    assert eye.looks_at(slow - 960, fast - 960).all()
    assert not eye.looks_at(np.array([y0 - 1.0 - 960]), np.array([0.0])).any()


def test_as_many_shots_are_left_as_are_labelled():
    assert list(module.ways_to_look("eiger", 39)) == []
    assert list(module.ways_to_look("eiger", 199)) == [(20, "all", None)]
    assert [n for n, _, _ in module.ways_to_look("LO19", 200)] == [20, 20, 100, 100]


def test_eyes(shots, capsys):
    for region in module.regions("LO19").values():
        for draw in module.draw_eyes(shots, 20, region):
            found = module.eye_figures(draw)
            assert len(draw.others) == len(draw.seen) == 220
            assert min(found[:4]) > 0.95
            assert found[4] < 0.05
    # The model itself keeps them all.
    assert all(o.kept for o in shots)
    module.print_eyes(module.draw_all({"LO19": shots}))
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines()[3:]]
    assert [row[:3] for row in rows] == [
        ["| LO19", n, place] for n in ("20", "100") for place in ("all", "window")
    ]
    assert min(float(x) for row in rows for x in row[3:7]) > 95


def test_models_without_candidates(shots):
    assert all(module.draw_all({"LO19": shots}).values())
    bare = Outcome(0, 0.0, Label.MISS, "blank", make_prediction([0, 0, 1]))
    assert not any(module.draw_all({"LO19": shots, "L498": [bare]}).values())


def test_bound_of_the_model_itself():
    def shot(p: float, label: Label, kind: str) -> Outcome:
        return Outcome(0, 0.0, label, kind, make_prediction([p, 0, 1 - p]))

    shots = [
        shot(0.9, Label.HIT, "crystal"),
        shot(0.015, Label.MAYBE, "crystal"),
        shot(0.3, Label.MISS, "few spots"),
        shot(0.01, Label.MISS, "solvent"),
    ]
    # At 5% the threshold is the tenth score of each: 0.02 and 0.4.
    hits = np.linspace(0.002, 0.4, 200)
    calibration = Calibration(hit_scores=hits, sure_scores=20 * hits[:199] / 8)

    def figures(draw: module.Draw, loss_of: LossOf) -> list[float]:
        found = module.find_hits(draw.chosen, calibration, loss_of)
        return module.bound_figures(draw, found, loss_of, 0.05)

    draw = module.Draw(ChosenEye(), shots, [shot.prediction for shot in shots])
    both = figures(draw, LossOf.HITS_AND_MAYBES)
    assert both == pytest.approx([hits[9], 0.5, 0.5, 1.0])
    sure = figures(draw, LossOf.HITS)
    assert sure == pytest.approx([2.5 * hits[9], 0.0, 0.5, 1.0])
    nothing = module.Draw(ChosenEye(), shots[2:3], [shots[2].prediction])
    found = figures(nothing, LossOf.HITS)
    assert np.isnan(found).tolist() == [False, True, False, True]


def test_bounds_by_eyes(shots, capsys):
    calibration = load_model("default").calibration
    groups = {"eiger": shots}
    eyes = module.draw_all(groups)
    module.print_bounds(groups, eyes, calibration)
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines()[3:]]
    ways = ["the model", "an eye of 20 labels, all", "an eye of 100 labels, all"]
    assert [row[1] for row in rows] == [way for way in ways for _ in range(4)]
    assert [row[2] for row in rows[:4]] == ["Hits and Maybes"] * 2 + ["Hits"] * 2
    assert [row[3] for row in rows[:4]] == ["0.01", "0.05"] * 2
    for row in rows[4:]:
        assert float(row[5]) < 2
        # To the eye Hits and blank shots differ by far.
        if row[2] == "Hits":
            assert float(row[7].rstrip(" |")) > 95
    for row in rows[:4]:
        assert float(row[7].rstrip(" |")) < 5
    plain = Calibration(0.0, np.ones(200), "", None, np.ones(200))
    module.print_bounds(groups, eyes, plain)
    assert len(capsys.readouterr().out.splitlines()) == 3 + 4
