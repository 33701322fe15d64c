"""From labelled frames to a calibrated model, tested on frames it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import Augmentation, Schedule, TrainingSet
from dials_cnn_screen.labels.probabilities import classify, softmax
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.training.checkpoint import Checkpoint, digest
from dials_cnn_screen.training.loop import (
    AUGMENTED,
    Epoch,
    best_epoch,
    calibrate,
    predict_logits,
    train,
)
from dials_cnn_screen.training.starting import Start
from dials_cnn_screen.util.errors import shorten

# Characters that say on what a model was trained, and as many on what the one that
# training started from: by hand. Each training from the last adds to them.
_LONGEST = 400


@dataclass(frozen=True, eq=False)
class Plan:
    """How a network is fitted to labelled frames.

    Attributes:
        start: The network as training begins.
        schedule: How long and how fast to learn.
        augmentation: How frames are varied.
        seed: Of batches and augmentation.
        device: cpu or cuda.
    """

    start: Start
    schedule: Schedule
    augmentation: Augmentation = AUGMENTED
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of a fit; the network is the plan's, trained in place.

    Attributes:
        history: All epochs.
        calibration: By the validation split.
        predicted: int64 (n,), classes of the test split.
        before: int64 (n,), the same by the model that training started from, with its
            own calibration; None with fresh weights.
    """

    history: list[Epoch]
    calibration: Calibration
    predicted: NDArray[np.int64]
    before: NDArray[np.int64] | None


def fit(
    plan: Plan,
    data: TrainingSet,
    splits: Splits,
    on_epoch: Callable[[Epoch], None],
    on_batch: Callable[[float, float], None] = lambda _loss, _success: None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train, calibrate by the validation split, and predict the test split.

    Args:
        plan: What is trained, and how.
        data: Prepared frames with labels.
        splits: Indices into data.
        on_epoch: As in train.
        on_batch: As in train.
        checkpoint: As in train.

    Raises:
        ValueError: As train does.
    """
    model, network = plan.start.model, plan.start.network.to(plan.device)
    before = None
    if model is not None:
        before = _predict(plan, data, splits.test, model.calibration.temperature)
    history = train(
        network,
        data,
        splits.training,
        splits.validation,
        plan.schedule,
        plan.seed,
        on_epoch,
        augmentation=plan.augmentation,
        device=plan.device,
        evaluate_start=model is not None,
        checkpoint=checkpoint,
        on_batch=on_batch,
    )
    calibration = calibrate(
        *predict_logits(network, data, splits.validation, plan.device),
        source=f"{len(splits.validation)} validation images of the training run",
    )
    predicted = _predict(plan, data, splits.test, calibration.temperature)
    return Fit(history, calibration, predicted, before)


def describe(plan: Plan, result: Fit) -> dict[str, Any]:
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
    plan: Plan, result: Fit, name: str, files: Sequence[str], splits: Splits
) -> Model:
    """The model for a model file.

    What is out of the distribution of the model started from is so of this one.

    Args:
        plan: What was trained, and how.
        result: Of fit.
        name: Of the model.
        files: Those of the labelled images.
        splits: Of the labelled images.
    """
    start = plan.start
    trained_on = f"{len(splits.training)} labelled images of {', '.join(files[:3])}"
    if more := len(files[3:]):
        trained_on += f" and {more} more file{'s' * (more != 1)}"
    trained_on = shorten(trained_on, _LONGEST)
    if start.model is not None:
        before = shorten(start.model.trained_on, _LONGEST)
        trained_on = f"{before}, then {trained_on}"
    return Model(
        name=name,
        network=start.network,
        architecture=start.architecture,
        preparation=start.preparation,
        calibration=result.calibration,
        trained_on=trained_on,
        provenance=describe(plan, result),
        out_of_distribution=None
        if start.model is None
        else start.model.out_of_distribution,
    )


def checkpoint_of(
    path: Path, plan: Plan, data: TrainingSet, splits: Splits
) -> Checkpoint:
    """The checkpoint of a run, with all that its result depends on."""
    start = plan.start
    return Checkpoint(
        path,
        {
            "images": digest(data.arrays()),
            "labels": digest([data.labels]),
            "splits": digest(splits),
            "start_from": start.model and start.model.sha256,
            "architecture": start.architecture,
            **start.preparation.as_dict(),
            **{f"training.{k}": v for k, v in vars(plan.schedule).items()},
            **{f"augmentation.{k}": v for k, v in vars(plan.augmentation).items()},
            "training.random_seed": plan.seed,
            "device": plan.device,
        },
    )


def _predict(
    plan: Plan, data: TrainingSet, indices: NDArray[np.int64], temperature: float
) -> NDArray[np.int64]:
    """Classes, int64 (n,)."""
    if not len(indices):
        return np.empty(0, np.int64)
    logits, _ = predict_logits(plan.start.network, data, indices, plan.device)
    return classify(softmax(logits.numpy(), temperature))
