from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import (
    MAX_SHIFT,
    Dataset,
    ImageSchedule,
)
from dials_cnn_screen.models import registry
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import plan_run
from dials_cnn_screen.studies import evaluate_models
from dials_cnn_screen.studies import make_ke2018 as module

SIZE = 16


@pytest.fixture
def runs(monkeypatch):
    """Everything made small, noise in place of shots; returns the runs simulated."""
    runs = []

    def simulate(jobs, preprocessing, path, nproc, title):
        runs.append(jobs)
        edge = preprocessing.size + 2 * MAX_SHIFT
        rng = np.random.default_rng(0)
        labels = np.array([int(aim) for _, aim, _ in jobs])
        images = rng.normal(size=(len(jobs), edge, edge)) - labels[:, None, None]
        np.save(path, images.astype(np.float16))
        return Dataset(np.load(path, mmap_mode="r"), labels)

    monkeypatch.setattr(module, "simulate_dataset", simulate)
    monkeypatch.setattr(module, "TRAINING_SHOTS", 6)
    monkeypatch.setattr(module, "VALIDATION_SHOTS", 3)
    monkeypatch.setattr(module, "SCHEDULE", ImageSchedule(2, 2, 6))
    monkeypatch.setattr(module, "PREPROCESSING", Preprocessing(size=SIZE))
    usual = registry.find_architecture(module.ARCHITECTURE)
    small = replace(usual, configuration={"size": SIZE})
    monkeypatch.setattr(registry, "ARCHITECTURES", {module.ARCHITECTURE: small})
    return runs


def test_shots_for_training_come_first(runs, tmp_path):
    dataset = module.simulated_shots(tmp_path)
    (jobs,) = runs
    assert len(jobs) == len(dataset.labels) == 5 * (6 + 3)
    training, validation = jobs[:30], jobs[30:]
    for split, n in ((training, 6), (validation, 3)):
        assert Counter(name for name, _, _ in split) == dict.fromkeys(EXPERIMENTS, n)
        assert set(Counter(aim for _, aim, _ in split).values()) == {5 * n // 3}


def test_training_validation_and_evaluation_have_no_shot_in_common(runs, tmp_path):
    module.simulated_shots(tmp_path)
    jobs = runs[0] + [
        job
        for i, name in enumerate(EXPERIMENTS)
        for job in plan_run(name, 100, (1, 1, 1), evaluate_models.SEED + i)
    ]
    assert len({seed for _, _, seed in jobs}) == len(jobs)


def test_a_second_run_finds_the_shots_again(runs, tmp_path):
    first = module.simulated_shots(tmp_path)
    again = module.simulated_shots(tmp_path)
    assert len(runs) == 1
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)


def test_an_unfinished_run_is_made_again(runs, tmp_path):
    module.simulated_shots(tmp_path)
    (tmp_path / "labels.npy").unlink()
    module.simulated_shots(tmp_path)
    assert len(runs) == 2


def test_the_model_made_can_be_read(runs, tmp_path):
    module.make_ke2018(tmp_path)
    model = load_model(tmp_path / "ke2018.safetensors")
    assert model.name == "ke2018"
    assert model.architecture == module.ARCHITECTURE
    assert model.preparation == Preprocessing(size=SIZE)
    assert model.provenance["seed"] == module.SEED
    assert model.provenance["schedule"]["epochs"] == 2
    # Two of three of the 15 validation shots are Hit or Maybe.
    assert model.calibration.hit_scores.shape == (10,)
    assert "15 simulated shots of L498" in model.calibration.source
    assert "30 simulated shots of L498" in model.trained_on


def test_what_is_made_fits_together():
    config = registry.find_architecture(module.ARCHITECTURE).network().config
    assert config.size == module.PREPROCESSING.size
    assert module.TRAINING_SEED != module.VALIDATION_SEED
