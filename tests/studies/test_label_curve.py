from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.ke2018.training_set import MAX_SHIFT
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.candidates_cpu import find_candidates
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies import label_curve as module
from dials_cnn_screen.studies.simulated_shots import PreparedShot
from dials_cnn_screen.training.starting import begin_anew


@pytest.fixture
def shots(monkeypatch):
    """Noise in place of simulated shots; returns the jobs of each simulation."""
    runs = []

    def simulate(jobs, inputs, _nproc):
        runs.append(jobs)
        image, search = (one.preparation for one in inputs)
        none = np.zeros((0, 2))
        edge = image.size + 2 * MAX_SHIFT
        rng = np.random.default_rng(0)
        for _, aim, _ in jobs:
            frame = rng.normal(100, 5, (64, 64)).astype(np.float32)
            found = find_candidates(frame, np.ones((64, 64), bool), (32, 32), search)
            stored = rng.normal(size=(edge, edge)).astype(np.float16)
            yield PreparedShot([stored, found], aim, none, np.zeros(0), none)

    monkeypatch.setattr(module, "simulate_prepared", simulate)
    return runs


def test_shots_are_in_the_deposited_shares_and_their_own():
    jobs, splits = module.plan_shots("LO19", 4000, 600)
    assert [len(split) for split in splits] == [4000, 1600, 600]
    assert len({seed for _, _, seed in jobs}) == len(jobs)
    shares = np.array(module.EXPERIMENTS["LO19"].images) / 2000
    for split in (*splits, splits.training[:400]):
        counts = np.bincount([jobs[i][1] for i in split], minlength=len(Label))
        np.testing.assert_allclose(counts / len(split), shares, atol=0.06)
    with pytest.raises(ValueError, match="'L0' is not one of L498"):
        module.plan_shots("L0", 10, 10)


@pytest.mark.parametrize("nproc", [["--nproc", "1"], ["--nproc", "2"]])
def test_table(nproc, shots, tmp_path, monkeypatch, capsys, forked):
    forked(module)

    def begin_small():
        start = begin_anew("ke2018", None)
        return replace(
            start,
            network=find_architecture("ke2018").network(channels=(4,), size=32),
            preparation=replace(start.preparation, size=32),
        )

    monkeypatch.setattr(module, "begin_ke2018", begin_small)
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(module, "choose_schedule", quick(module.choose_schedule))
    arguments = ["--labels", "10", "20", "--test", "8", "--epochs", "1"]
    monkeypatch.setattr(
        sys, "argv", ["label_curve", *arguments, "--folder", str(tmp_path), *nproc]
    )
    module.main()
    assert [len(jobs) for jobs in shots] == [20 + 8 + 8]
    out = capsys.readouterr().out
    rows = [line.split(" | ") for line in out.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [
        ("| 0", module.UNFITTED),
        ("| 10", module.FITTED),
        ("| 20", module.FITTED),
        ("| 10", module.FRESH),
        ("| 20", module.FRESH),
    ]
    # A second run finds the shots.
    module.main()
    assert len(shots) == 1


def quick(choose):
    def choose_quick(start, name, changes):
        return choose(start, name, {**changes, "batches": 1, "batch_size": 4})

    return choose_quick


def test_an_expert_who_sees_strong_spots_only():
    data = CandidateSet.empty(3, 12)
    data.labels[:] = [0, 0, 2]
    data.truth[:2] = 1
    data.truth[2] = 0
    data.scalars[:, :, 0] = np.arcsinh(20)
    data.scalars[1, 5:, 0] = np.arcsinh(11)
    assert module.expert_labels(data, 0.0).tolist() == [0, 0, 2]
    assert module.expert_labels(data, 12.0).tolist() == [0, 1, 2]
