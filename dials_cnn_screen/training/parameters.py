"""The parameters of dials.cnn_train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dials_cnn_screen.architecture import Augmentation
from dials_cnn_screen.training.splitting import SplitRule
from dials_cnn_screen.util.workers import Processes


@dataclass(frozen=True)
class Training:
    """The parameters of training.

    Attributes:
        schedule: short or paper.
        epochs, batches, batch_size, learning_rate, final_learning_rate, patience: In
            place of the schedule's; None: as the schedule has it.
        random_seed: Of weights, random splits, batches and augmentation.
        resume: Whether an existing checkpoint is used.
    """

    schedule: str
    epochs: int | None
    batches: int | None
    batch_size: int | None
    learning_rate: float | None
    final_learning_rate: float | None
    patience: int | None
    random_seed: int
    resume: bool

    def changes(self) -> dict[str, float | None]:
        """What replaces fields of the schedule."""
        others = {"schedule", "random_seed", "resume"}
        return {name: x for name, x in vars(self).items() if name not in others}


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files; None switches one off."""

    model: str | None
    history: str | None
    plot: str | None
    log: str | None


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_train.

    Attributes:
        annotation: Annotation files.
        start_from: A model, None for fresh weights, or Auto.
        architecture: A name in the registry, None or Auto.
        contrast: As of ke2018's preparation, or auto.
    """

    annotation: Sequence[str | None]
    start_from: Any
    architecture: Any
    contrast: str
    split: SplitRule
    augmentation: Augmentation
    training: Training
    device: str
    mp: Processes
    output: Output
