"""Training a network: batches, a falling learning rate, the best epoch is kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.ke2018.training_set import Augmentation
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import keep_score, probabilities
from dials_cnn_screen.models.model_file import Calibration
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.util.threads import use_threads

AUGMENTED = Augmentation()
# Frames that are judged at once.
_AT_ONCE = 32


class LabelledFrames(Protocol):
    """What a network is trained on: a Dataset, or a CandidateSet for spots."""

    labels: np.ndarray

    def batch(self, indices: np.ndarray) -> Any:
        """Frames as the network takes them."""

    def augmented(
        self, indices: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
    ) -> Any:
        """Frames as it takes them, varied at random."""

    def loss(self, output: Any, indices: np.ndarray) -> torch.Tensor:
        """How wrong the network's output is."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: losses, and success rates (equation 10) in percent.

    epoch: from 1; 0 is the network that training began with.
    """

    epoch: int
    loss: float
    training_success: float
    validation_loss: float
    validation_success: float


def train(
    network: nn.Module,
    data: LabelledFrames,
    training: np.ndarray,
    validation: np.ndarray,
    schedule: Any,
    seed: int,
    on_epoch: Callable[[Epoch], None],
    *,
    augmentation: Augmentation = AUGMENTED,
    device: str = "cpu",
    judge_start: bool = False,
    checkpoint: Checkpoint | None = None,
    on_batch: Callable[[float, float], None] = lambda _loss, _success: None,
) -> list[Epoch]:
    """Train in place; the network is left as it was at the best validation loss.

    training, validation: indices into data. schedule: a Schedule, or a SpotSchedule.
    Weights that need no gradient stay as they are. judge_start: the network as it is
    given is epoch 0, and left so if no other is better. on_batch: is given each batch's
    loss and success rate in percent. checkpoint: where the run is kept after each
    epoch, and goes on from; all that is drawn comes from one generator, so that an
    interrupted run ends as an unbroken one. Returns all epochs, also those from before.

    Raises ValueError if a part is empty, or the loss is not finite from the beginning.
    """
    for name, part in (("training", training), ("validation", validation)):
        if not len(part):
            raise ValueError(f"the {name} part has no images; label more of them")
    network.to(device)
    course = _Course(network, schedule, _batches(schedule, len(training)), seed)
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        course.restore(state)
    elif judge_start:
        trained = _judge(network, data, training, schedule, device)
        held = _judge(network, data, validation, schedule, device)
        course.add(Epoch(0, *trained, *held))
        on_epoch(course.history[-1])
    while not course.is_over():
        trained = _train_epoch(course, data, training, augmentation, device, on_batch)
        held = _judge(network, data, validation, schedule, device)
        course.add(Epoch(course.done + 1, *trained, *held))
        if checkpoint:
            checkpoint.save(course.state())
        on_epoch(course.history[-1])
    network.load_state_dict(course.best)
    return course.history


def best_epoch(history: list[Epoch]) -> Epoch:
    """The epoch of the lowest validation loss, the first of equal ones."""
    return min(history, key=lambda epoch: epoch.validation_loss)


class _Course:
    """All that changes as a network is trained, and so what a checkpoint holds."""

    def __init__(
        self, network: nn.Module, schedule: Any, batches: int, seed: int
    ) -> None:
        self.network, self.schedule, self.batches = network, schedule, batches
        weights = [w for w in network.parameters() if w.requires_grad]
        self.optimiser = schedule.optimiser(weights)
        self.rate = schedule.rate(self.optimiser, batches)
        self.rng = np.random.default_rng(seed)
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] = {}

    def add(self, epoch: Epoch) -> None:
        """Note an epoch; ValueError where the loss of the first one is not finite."""
        if not self.history and not np.isfinite(epoch.validation_loss):
            raise ValueError(
                f"the loss is {epoch.validation_loss} after epoch {epoch.epoch}: it "
                "does not fall; set a smaller training.learning_rate"
            )
        self.history.append(epoch)
        if best_epoch(self.history) is epoch:
            self.best = copy.deepcopy(self.network.state_dict())

    @property
    def done(self) -> int:
        """Number of epochs done."""
        return self.history[-1].epoch if self.history else 0

    def is_over(self) -> bool:
        """Whether all epochs are done, or going on would give nothing better."""
        if not self.history:
            return False
        patience = self.schedule.patience
        since_best = self.done - best_epoch(self.history).epoch
        return (
            self.done >= self.schedule.epochs
            or (patience is not None and since_best >= patience)
            or not np.isfinite(self.history[-1].validation_loss)
        )

    def state(self) -> dict:
        return {
            "network": self.network.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
            "history": [asdict(epoch) for epoch in self.history],
            # The order in which sums are taken depends on it.
            "threads": torch.get_num_threads(),
        }

    def restore(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        use_threads(state["threads"])


def _batches(schedule: Any, n: int) -> int:
    """Batches in an epoch; without a number, as many as have each of n frames once."""
    return schedule.batches or max(1, n // schedule.batch_size)


def _train_epoch(
    course: _Course,
    data: LabelledFrames,
    training: np.ndarray,
    augmentation: Augmentation,
    device: str,
    on_batch: Callable[[float, float], None],
) -> tuple[float, float]:
    """Mean loss and success rate (%) over the batches of an epoch."""
    course.network.train()
    schedule, rng = course.schedule, course.rng
    if schedule.batches:
        chosen = balanced(
            data.labels, training, schedule.batch_size, schedule.batches, rng
        )
    else:
        chosen = _shuffled(training, schedule.batch_size, rng)
    results = []
    for indices in chosen:
        output = course.network(data.augmented(indices, augmentation, rng).to(device))
        loss = data.loss(output, indices)
        course.optimiser.zero_grad()
        loss.backward()
        course.optimiser.step()
        course.rate.step()
        right = _fraction_right(
            _scores(output).cpu(), torch.from_numpy(data.labels[indices])
        )
        results.append((loss.item(), 100 * right))
        on_batch(*results[-1])
    return tuple(np.mean(results, axis=0).tolist())


def balanced(
    labels: np.ndarray,
    indices: np.ndarray,
    batch_size: int,
    n_batches: int,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Random batches of indices, as many of each class that there is (section 2.1.3).

    A class of few frames has each of them often.
    """
    by_class = [indices[labels[indices] == c] for c in np.unique(labels[indices])]
    for _ in range(n_batches):
        classes = rng.permutation(np.arange(batch_size) % len(by_class))
        yield np.array([rng.choice(by_class[c]) for c in classes])


def _shuffled(
    indices: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Whole batches, each index once at the most; all in one if they fill none."""
    order = rng.permutation(indices)
    for i in range(max(1, len(order) // batch_size)):
        yield order[i * batch_size : (i + 1) * batch_size]


def class_scores(
    network: nn.Module, data: LabelledFrames, indices: np.ndarray, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores z (n, 3) of frames, not varied, and their labels (n,)."""
    network.eval()
    with torch.no_grad():
        scores = [
            _scores(network(data.batch(part).to(device))).cpu()
            for part in np.split(indices, range(_AT_ONCE, len(indices), _AT_ONCE))
        ]
    return torch.cat(scores), torch.from_numpy(data.labels[indices])


def _scores(output: Any) -> torch.Tensor:
    """Class scores of what a network gives: them alone, or a Verdict."""
    return output if isinstance(output, torch.Tensor) else output.scores


def _fraction_right(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return (scores.argmax(dim=1) == labels).float().mean().item()


def _judge(
    network: nn.Module,
    data: LabelledFrames,
    indices: np.ndarray,
    schedule: Any,
    device: str,
) -> tuple[float, float]:
    """Cross-entropy, classes weighing as they do in the batches; success rate (%)."""
    scores, labels = class_scores(network, data, indices, device)
    if schedule.batches:
        loss = balanced_loss(scores, labels)
    else:
        loss = nn.functional.cross_entropy(scores, labels).item()
    return loss, 100 * _fraction_right(scores, labels)


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
