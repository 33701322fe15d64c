from __future__ import annotations

import sys

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies import labelling as module
from dials_cnn_screen.studies.labelling import Round, labels_needed


@pytest.fixture
def shots(monkeypatch):
    """Noise in place of simulated shots; hits have more that stands out."""

    def candidates(jobs, search, _nproc, _title):
        data = CandidateSet.empty(len(jobs), search.most)
        rng = np.random.default_rng(0)
        data.truth[:] = 0
        data.labels[:] = [int(aim) for _, aim, _ in jobs]
        data.present[:, :8] = True
        data.scalars[:] = rng.normal(size=data.scalars.shape)
        data.scalars[data.labels == Label.HIT, :8] += 2
        return data

    monkeypatch.setattr(module, "simulate_candidates", candidates)


def test_fewest_labels_that_reach_the_goal():
    rounds = [Round(0, 0.5), Round(20, 0.96), Round(40, 0.94), Round(80, 0.99)]
    assert labels_needed(rounds) == 20
    assert labels_needed(rounds[:1]) is None
    assert labels_needed([Round(0, float("nan"))]) is None


def test_the_order_is_that_of_the_tool(monkeypatch):
    p = np.array([[0.9, 0.05, 0.05], [0.3, 0.25, 0.45], [0.0, 0.1, 0.9]])
    monkeypatch.setattr(module, "_probabilities", lambda *_: p)
    assert module.most_uncertain(None, 1.0, None, np.arange(3)) == [1, 2, 0]


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_table(shots, monkeypatch, capsys, fresh):
    sizes = ["--pool", "40", "--test", "30", "--labels", "14", "28", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["labelling", "LO19", *sizes, *fresh])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert "in order" in lines[0]
    assert "by uncertainty" in lines[0]
    assert [line.split()[1] for line in lines[2:5]] == ["0", "14", "28"]
    assert sum(line.startswith("Labels to 95% / 95%") for line in lines) == 2
