from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dials_cnn_screen.architecture import Augmentation
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.spots.candidates import LEVELS
from dials_cnn_screen.spots.training_set import CandidateSet, SpotSchedule
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import Plan, checkpoint_of, fit, fitted_model
from dials_cnn_screen.training.starting import begin_from

SPLITS = Splits(np.arange(20), np.arange(20, 40), np.arange(40, 60))
SCHEDULE = SpotSchedule(epochs=6, batch_size=12, batches=20, learning_rate=0.03)


@pytest.fixture
def frames() -> CandidateSet:
    """60 frames that the default model takes for Misses; two thirds are none.

    Their class is in their numbers of maxima, of which the head is told.
    """
    rng = np.random.default_rng(0)
    data = CandidateSet.empty(60, 4)
    data.labels[:] = np.arange(60) % 3
    data.frame[:] = rng.normal(0, 0.1, data.frame.shape)
    data.frame[:, : len(LEVELS)] += 2 * data.labels[:, None]
    return data


@pytest.fixture
def plan() -> Plan:
    torch.manual_seed(0)
    return Plan(begin_from("default", None, None), SCHEDULE)


def ignore(_epoch) -> None:
    pass


def test_a_model_is_fitted_to_labels(frames, plan):
    result = fit(plan, frames, SPLITS, ignore)
    test = frames.labels[SPLITS.test]
    assert (result.predicted == test).mean() > 0.9
    assert (result.before == test).mean() < 0.5
    assert [epoch.epoch for epoch in result.history] == list(range(7))
    assert len(result.calibration.hit_scores) == np.count_nonzero(
        frames.labels[SPLITS.validation] < 2
    )
    model = fitted_model(plan, result, "m", ["a", "b", "c", "d"], SPLITS)
    assert model.name == "m"
    assert model.trained_on.endswith(
        ", then 20 labelled images of a, b, c and 1 more file"
    )
    assert model.out_of_distribution is plan.start.model.out_of_distribution
    assert model.provenance["start_from"]["name"] == "default"
    assert model.provenance["augmentation"]["flips"] is True


def test_what_a_model_was_trained_on_does_not_grow_for_ever(frames, plan):
    result = fit(
        replace(plan, schedule=replace(SCHEDULE, epochs=1)), frames, SPLITS, ignore
    )
    for _ in range(30):
        model = fitted_model(plan, result, "m", ["long" * 99], SPLITS)
        plan = replace(plan, start=replace(plan.start, model=model))
    assert len(model.trained_on) < 1000  # as models/model_file.py takes


def test_without_a_test_split(frames, plan):
    splits = SPLITS._replace(test=np.empty(0, int))
    plan = replace(plan, schedule=replace(SCHEDULE, epochs=1))
    result = fit(plan, frames, splits, ignore)
    assert len(result.predicted) == len(result.before) == 0


def test_checkpoint_is_of_all_that_the_result_depends_on(frames, plan, tmp_path):
    path = tmp_path / "c"

    def run_of(plan=plan, frames=frames, splits=SPLITS) -> dict:
        return checkpoint_of(path, plan, frames, splits).run

    usual = run_of()
    relabelled = replace(frames, labels=frames.labels[::-1].copy())
    others = {
        "images": run_of(frames=replace(frames, frame=frames.frame + 1)),
        "labels": run_of(frames=relabelled),
        "splits": run_of(splits=SPLITS._replace(test=np.arange(41, 60))),
        "training.batches": run_of(
            replace(plan, schedule=replace(SCHEDULE, batches=9))
        ),
        "augmentation.flips": run_of(
            replace(plan, augmentation=Augmentation(flips=False))
        ),
        "training.random_seed": run_of(replace(plan, seed=1)),
        "device": run_of(replace(plan, device="cuda")),
    }
    for name, other in others.items():
        assert {key for key in usual if usual[key] != other[key]} == {name}
    assert usual["start_from"] == plan.start.model.sha256
    Checkpoint(path, usual).save({})
    assert Checkpoint(path, run_of()).load() == {}
