"""Labelled frames to a calibrated network, judged by those that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dials_cnn_screen.ke2018.training_set import Augmentation
from dials_cnn_screen.labels.probabilities import classify, probabilities
from dials_cnn_screen.labels.splits import Parts
from dials_cnn_screen.models.model_file import Calibration, Model
from dials_cnn_screen.spots.training_set import SpotSchedule
from dials_cnn_screen.training.checkpoint import Checkpoint, digest
from dials_cnn_screen.training.loop import (
    AUGMENTED,
    Epoch,
    LabelledFrames,
    Schedule,
    best_epoch,
    calibrate,
    class_scores,
    train,
)
from dials_cnn_screen.training.starting import Start


@dataclass(frozen=True, eq=False)
class Plan:
    """How a network is fitted to labelled frames; seed: of batches and variations."""

    start: Start
    schedule: Schedule | SpotSchedule
    augmentation: Augmentation = AUGMENTED
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Fit:
    """What came of it; the network is the plan's, trained in place.

    predicted: classes of the test part, int64 (n,). before: those by the model that
    training started from, with its own calibration; None with fresh weights.
    """

    history: list[Epoch]
    calibration: Calibration
    predicted: np.ndarray
    before: np.ndarray | None


def fit(
    plan: Plan,
    data: LabelledFrames,
    parts: Parts,
    on_epoch: Callable[[Epoch], None],
    on_batch: Callable[[float, float], None] = lambda _loss, _success: None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train, calibrate by the validation part, and judge by the test part."""
    model, network = plan.start.model, plan.start.network.to(plan.device)
    before = None
    if model is not None:
        before = _predict(plan, data, parts.test, model.calibration.temperature)
    history = train(
        network,
        data,
        parts.training,
        parts.validation,
        plan.schedule,
        plan.seed,
        on_epoch,
        augmentation=plan.augmentation,
        device=plan.device,
        judge_start=model is not None,
        checkpoint=checkpoint,
        on_batch=on_batch,
    )
    calibration = calibrate(
        *class_scores(network, data, parts.validation, plan.device),
        source=f"{len(parts.validation)} validation images of the training run",
    )
    predicted = _predict(plan, data, parts.test, calibration.temperature)
    return Fit(history, calibration, predicted, before)


def describe(plan: Plan, result: Fit) -> dict:
    """How a model was made, JSON values."""
    model = plan.start.model
    return {
        "program": "dials.cnn_train",
        "start_from": model and {"name": model.name, "sha256": model.sha256},
        "schedule": vars(plan.schedule),
        "augmentation": vars(plan.augmentation),
        "random_seed": plan.seed,
        "best_epoch": best_epoch(result.history).epoch,
    }


def fitted_model(
    plan: Plan, result: Fit, name: str, files: Sequence[str], parts: Parts
) -> Model:
    """What the model file has; of a model started from, what it is familiar with too.

    files: of the labelled images.
    """
    start = plan.start
    trained_on = f"{len(parts.training)} labelled images of {', '.join(files[:3])}" + (
        f" and {len(files) - 3} more files" if len(files) > 3 else ""
    )
    if start.model is not None:
        trained_on = f"{start.model.trained_on}, then {trained_on}"
    return Model(
        name=name,
        network=start.network,
        architecture=start.architecture,
        preprocessing=start.preprocessing,
        calibration=result.calibration,
        trained_on=trained_on,
        provenance=describe(plan, result),
        familiarity=start.model and start.model.familiarity,
    )


def checkpoint_of(
    path: Path, plan: Plan, data: LabelledFrames, parts: Parts
) -> Checkpoint:
    """The checkpoint of a run, by all that its result depends on."""
    start = plan.start
    return Checkpoint(
        path,
        {
            "images": digest(v for k, v in vars(data).items() if k != "labels"),
            "labels": digest([data.labels]),
            "split": digest(parts),
            "start_from": start.model and start.model.sha256,
            "architecture": start.architecture,
            **start.preprocessing.as_dict(),
            **{f"training.{k}": v for k, v in vars(plan.schedule).items()},
            **{f"augmentation.{k}": v for k, v in vars(plan.augmentation).items()},
            "training.random_seed": plan.seed,
            "device": plan.device,
        },
    )


def _predict(
    plan: Plan, data: LabelledFrames, indices: np.ndarray, temperature: float
) -> np.ndarray:
    """Classes by the rule of decision.classify, int64 (n,)."""
    if not len(indices):
        return np.empty(0, np.int64)
    scores, _ = class_scores(plan.start.network, data, indices, plan.device)
    p = probabilities(scores.numpy(), temperature)
    return np.array([int(classify(row)) for row in p])
