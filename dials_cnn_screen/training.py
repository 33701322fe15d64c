"""Training a network on a dataset: balanced batches, SGD, a falling learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.dataset import Dataset, balanced_batches, centre_crops
from dials_cnn_screen.decision import keep_score, probabilities
from dials_cnn_screen.labels import Label
from dials_cnn_screen.model_file import Calibration


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn (section 3.4; weight decay of the deposited code).

    The learning rate falls exponentially from learning_rate to final_learning_rate,
    without momentum, as in equation 5: with it, a rate of 0.1 does not converge.
    Raises ValueError for a learning_rate of 0 or less.
    """

    epochs: int = 120
    batches: int = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    final_learning_rate: float = 0.0001
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} teaches nothing")


@dataclass(frozen=True)
class Epoch:
    """What one epoch (from 1) gave: losses, success rates (equation 10) in percent."""

    epoch: int
    loss: float
    training_success: float
    validation_loss: float
    validation_success: float


def train(
    network: nn.Module,
    dataset: Dataset,
    training: np.ndarray,
    validation: np.ndarray,
    schedule: Schedule,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train in place; the network is left as it was at the best validation loss.

    training, validation: indices into the dataset. The loss is the cross-entropy,
    -mean(log y_class), which is what equation 4 means. Raises ValueError if either
    part is empty.
    """
    for name, part in (("training", training), ("validation", validation)):
        if not len(part):
            raise ValueError(f"the {name} part has no images; label more of them")
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
    )
    history: list[Epoch] = []
    best: dict[str, torch.Tensor] = {}
    for epoch in range(schedule.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(schedule, epoch)
        batches = balanced_batches(
            dataset, training, schedule.batch_size, schedule.batches, rng
        )
        loss, success = _train_epoch(network, optimiser, batches)
        scores, labels = class_scores(network, dataset, validation)
        result = Epoch(
            epoch=epoch + 1,
            loss=loss,
            training_success=success,
            validation_loss=balanced_loss(scores, labels),
            validation_success=100 * _fraction_right(scores, labels),
        )
        if all(result.validation_loss < other.validation_loss for other in history):
            best = copy.deepcopy(network.state_dict())
        history.append(result)
        on_epoch(result)
    network.load_state_dict(best)
    return history


def learning_rate(schedule: Schedule, epoch: int) -> float:
    """Learning rate of an epoch (from 0), falling exponentially over the schedule."""
    decay = schedule.final_learning_rate / schedule.learning_rate
    return schedule.learning_rate * decay ** (epoch / max(1, schedule.epochs - 1))


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[float, float]:
    """Mean loss and success rate (%) over the batches of an epoch."""
    network.train()
    losses, right = [], []
    for images, labels in batches:
        optimiser.zero_grad()
        scores = network(images)
        loss = nn.functional.cross_entropy(scores, labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        right.append(_fraction_right(scores, labels))
    return float(np.mean(losses)), float(100 * np.mean(right))


def _fraction_right(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return (scores.argmax(dim=1) == labels).float().mean().item()


def class_scores(
    network: nn.Module, dataset: Dataset, indices: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores z (n, 3) of centre-cropped frames, and their labels (n,)."""
    network.eval()
    scores, labels = [], []
    with torch.no_grad():
        for images, batch_labels in centre_crops(dataset, indices, batch_size=16):
            scores.append(network(images))
            labels.append(batch_labels)
    return torch.cat(scores), torch.cat(labels)


def balanced_loss(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Cross-entropy in which every class present weighs the same."""
    losses = nn.functional.cross_entropy(scores, labels, reduction="none")
    by_class = [losses[labels == c].mean() for c in labels.unique()]
    return float(torch.stack(by_class).mean())


def fit_temperature(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature T that makes softmax(z / T) best calibrated, on held-out data.

    Guo et al. (2017), Proc. ICML, 1321. T is searched on a grid from 0.2 to 5.
    """
    grid = np.geomspace(0.2, 5.0, 65)
    return float(min(grid, key=lambda t: balanced_loss(scores / t, labels)))


def calibrate(scores: torch.Tensor, labels: torch.Tensor, source: str) -> Calibration:
    """Calibration by held-out scores (n, 3) and labels (n,); source: what they are."""
    temperature = fit_temperature(scores, labels)
    p = keep_score(probabilities(scores.numpy(), temperature))
    hits = labels.numpy() != Label.MISS
    return Calibration(temperature, np.sort(p[hits]), source)
