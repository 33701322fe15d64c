from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import evaluate_models as module
from dials_cnn_screen.studies.outcomes import Outcome

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "ke2018.txt"
SURE_HIT, SURE_MISS = np.array([0.9, 0.1, 0.0]), np.array([0.0, 0.1, 0.9])


def outcome(n_visible: int, p: np.ndarray, kind: str = "crystal") -> Outcome:
    label = Label.HIT if n_visible > 9 else Label.MAYBE if n_visible > 3 else Label.MISS
    return Outcome(n_visible, float(n_visible), label, kind, make_prediction(p))


OUTCOMES = [
    outcome(50, SURE_HIT),
    outcome(12, SURE_HIT),
    outcome(12, SURE_MISS),
    outcome(5, SURE_HIT),
    outcome(0, SURE_MISS, "solvent"),
    outcome(0, SURE_MISS, "solvent"),
    outcome(2, SURE_HIT, "few spots"),
]


def test_table(capsys):
    module.print_table({"LO19": OUTCOMES})
    row = capsys.readouterr().out.splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # Two hits and a maybe of four are kept, two of three misses rejected.
    assert cells[:4] == ["LO19", "3, 1, 3", "75.0 (30.1-95.4)", "66.7 (20.8-93.9)"]
    # Of twelve pairs a hit and a miss, 3 x 2 are in order, 3 + 2 equal, one reversed.
    assert cells[4] == f"{(6 + 5 / 2) / 12:.3f}"
    # The fourth best spot is here as good as spots are many: all hits are above.
    assert cells[6] == "100.0"
    # Of chances of 1 and 0.1; four of seven shots have 1, which nothing changes.
    assert float(cells[9]) == pytest.approx(3 / 7 * 0.12, abs=0.03)
    assert cells[10:] == ["0.0", "94.8 / 96.0"]


def test_kinds(capsys):
    module.print_kinds(OUTCOMES)
    rows = capsys.readouterr().out.splitlines()[3:]
    found = {row.split("|")[1].strip(): row.split("|")[2:4] for row in rows}
    assert {kind: int(n) for kind, (n, _) in found.items()} == {
        "Hit, over 20 spots": 1,
        "Hit, 10-20 spots": 2,
        "Maybe": 1,
        "Miss: solvent": 2,
        "Miss: few spots": 1,
    }
    assert found["Hit, 10-20 spots"][1].split()[0] == "50.0"
    assert found["Miss: solvent"][1].split()[0] == "0.0"


def test_plans(level_model, monkeypatch, capsys):
    seen = {}

    def evaluate(_model: object, jobs: list, title: str) -> list[Outcome]:
        seen[title] = jobs
        return OUTCOMES

    monkeypatch.setattr(module, "evaluate", evaluate)
    module.main(str(level_model), [], 20)
    assert seen.keys() == EXPERIMENTS.keys()
    # Of 2000 LO19 have 730, 151, 1119; of 20, 7, 2 and 11.
    aims = [aim for _, aim, _ in seen["LO19"]]
    assert [aims.count(label) for label in Label] == [7, 2, 11]
    seen.clear()
    module.main(str(level_model), ["eiger", "LO19"], 20)
    assert list(seen) == ["eiger", "LO19"]
    assert all(name.startswith("eiger-") for name, _, _ in seen["eiger"])
    # The same shots of an experiment, whatever others are evaluated beside it.
    assert seen["LO19"] == module.plan(list(EXPERIMENTS), 20, module.SEED)["LO19"]
    with pytest.raises(ValueError, match="'LO20': not L498"):
        module.main(str(level_model), ["LO20"], 20)


def test_a_shot_is_classified(level_model, monkeypatch):
    """On a small window of the detector, so that it is quick."""
    experiment = EXPERIMENTS["LO19"]
    small = replace(
        experiment,
        d_min=6.0,
        detector=replace(
            experiment.detector, shape=(128, 128), beam_centre=(64.0, 64.0)
        ),
    )
    monkeypatch.setitem(EXPERIMENTS, "LO19", small)
    predictor = load_model(level_model).predictor()
    found = module._evaluate_job(predictor, ("LO19", Label.MISS, 5))
    assert found.prediction.probabilities.sum() == pytest.approx(1)
    assert found.label is Label.MISS


def test_published_figures_are_those_of_table_3():
    assert module.PUBLISHED.keys() == EXPERIMENTS.keys()
    if not PAPER.is_file():
        pytest.skip(f"no text of the paper in {PAPER}")
    table = PAPER.read_text().split("Confusion matrices for classification")[1]
    for name, (sensitivity, specificity) in module.PUBLISHED.items():
        pattern = rf"{name}\tHit or Maybe\t([\d.]+)%.*\n\s*\tMiss\t[\d.]+%\t([\d.]+)%"
        found = re.search(pattern, table)
        assert found, name
        assert (sensitivity, specificity) == (float(found[1]), float(found[2]))


def test_reliability(capsys):
    module.print_reliability(OUTCOMES)
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines()[3:]]
    found = [(cells[1].strip(), int(cells[2]), cells[4].split()[0]) for cells in rows]
    # Of three shots with a chance of 0.1 one is a hit; of four with 1, three.
    assert found == [("0.1-0.2", 3, "33.3"), ("0.9-1.0", 4, "75.0")]


def test_chance_error():
    # One shot of a chance of 0.3 is off by 0.7 or by 0.3.
    assert module.chance_error(np.array([0.3])) == pytest.approx(0.42, abs=0.06)
    assert module.chance_error(np.array([0.0, 1.0])) == 0
    many = module.chance_error(np.random.default_rng(0).random(10_000))
    assert 0 < many < 0.02
