"""Training a network on a dataset: balanced batches, SGD, a falling learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.dataset import Dataset, balanced_batches, centre_crops


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn (section 3.4; momentum as in the deposited code).

    The learning rate falls exponentially from learning_rate to final_learning_rate.
    """

    epochs: int = 120
    batches: int = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    final_learning_rate: float = 0.0001
    momentum: float = 0.9
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean loss, success rates (equation 10, three classes)."""

    epoch: int
    loss: float
    training_success: float
    validation_success: float
    validation_loss: float


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
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    decay = schedule.final_learning_rate / schedule.learning_rate
    loss_function = nn.CrossEntropyLoss()
    history: list[Epoch] = []
    best_loss, best_state = np.inf, None
    for epoch in range(schedule.epochs):
        progress = epoch / max(1, schedule.epochs - 1)
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate * decay**progress
        losses, right = [], []
        network.train()
        for images, labels in balanced_batches(
            dataset, training, schedule.batch_size, schedule.batches, rng
        ):
            optimiser.zero_grad()
            scores = network(images)
            loss = loss_function(scores, labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            right.append((scores.argmax(dim=1) == labels).float().mean().item())
        scores, labels = class_scores(network, dataset, validation)
        validation_loss = balanced_loss(scores, labels)
        success = (scores.argmax(dim=1) == labels).float().mean().item()
        history.append(
            Epoch(
                epoch + 1,
                float(np.mean(losses)),
                float(np.mean(right)),
                success,
                validation_loss,
            )
        )
        if validation_loss < best_loss:
            best_loss = validation_loss
            best_state = copy.deepcopy(network.state_dict())
        on_epoch(history[-1])
    network.load_state_dict(best_state)
    return history


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
    return float(torch.stack([losses[labels == c].mean() for c in labels.unique()]).mean())


def fit_temperature(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature T that makes softmax(z / T) best calibrated, on held-out data.

    Guo et al. (2017), Proc. ICML, 1321. T is searched on a grid from 0.2 to 5.
    """
    grid = np.geomspace(0.2, 5.0, 65)
    return float(min(grid, key=lambda t: balanced_loss(scores / t, labels)))
