from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import plan_random_experiments
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.training_set import CandidateSet, SpotSchedule
from dials_cnn_screen.studies import evaluate_models
from dials_cnn_screen.studies import make_default as module


@pytest.fixture
def runs(monkeypatch):
    """Made-up candidates in place of simulated ones; returns the jobs of each file."""
    runs = []

    def simulate(jobs, search, _nproc, _title):
        runs.append(jobs)
        rng = np.random.default_rng(len(runs))
        data = CandidateSet.empty(len(jobs), search.most)
        data.present[:] = True
        data.scalars[:] = rng.random(data.scalars.shape)
        data.truth[:] = rng.integers(2, size=data.truth.shape)
        data.labels[:] = [int(aim) for _, aim, _ in jobs]
        return data

    monkeypatch.setattr(module, "simulate_candidates", simulate)
    monkeypatch.setattr(
        module, "with_simulated_hits", lambda model, _: model.calibration
    )
    monkeypatch.setattr(module, "SHOTS", 250)
    monkeypatch.setattr(module, "_SHOTS_PER_FILE", 100)
    monkeypatch.setattr(module, "SEARCH", CandidateSearch(most=3))
    monkeypatch.setattr(module, "SCHEDULE", SpotSchedule(epochs=2, batch_size=16))
    return runs


def test_model_can_be_read(runs, tmp_path, capsys):
    module.make_default(tmp_path, [])
    assert [len(jobs) for jobs in runs] == [100, 100, 50]
    assert len(capsys.readouterr().out.splitlines()) == 2
    model = load_model(tmp_path / "default.safetensors")
    assert (model.name, model.architecture) == ("default", "spots")
    assert model.preparation == CandidateSearch(most=3)
    assert model.provenance["seed"] == module.SEED
    assert model.out_of_distribution is not None
    # A second run finds the files, and makes the same model.
    module.make_default(tmp_path, [])
    assert len(runs) == 3
    again = load_model(tmp_path / "default.safetensors").network.state_dict()
    for name, weights in model.network.state_dict().items():
        assert weights.equal(again[name]), name


def test_families_left_out_are_not_trained_on(runs, tmp_path, monkeypatch):
    seen = {}

    def train(_network, _data, training, validation, *_others):
        seen["training"], seen["validation"] = training, validation

    monkeypatch.setattr(module, "train", train)
    module.make_default(tmp_path, ["cspad", "rayonix"])
    names = [name for jobs in runs for name, _, _ in jobs]
    used = {module.family_of(names[i]) for split in seen.values() for i in split}
    assert used
    assert not used & {"cspad", "rayonix"}
    assert load_model(tmp_path / "default.safetensors").name.startswith("without")


def test_no_experiment_is_in_two_splits():
    names = np.array([name for name, _, _ in plan_random_experiments(600, seed=3)])
    split = module.split_of(names)
    for s, least, most in ((0, 0.7, 0.9), (1, 0.05, 0.15), (2, 0.05, 0.15)):
        assert least < (split == s).mean() < most
        assert not set(names[split == s]) & set(names[split != s])


def test_evaluation_has_no_experiment_of_training():
    trained = {name for name, _, _ in plan_random_experiments(300, module.SHOTS_SEED)}
    tested = {name for name, _, _ in plan_random_experiments(300, evaluate_models.SEED)}
    assert not trained & tested
    assert not trained & EXPERIMENTS.keys()
