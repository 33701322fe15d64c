"""Training a network: batches, a falling learning rate, the best epoch is kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dials_cnn_screen.architecture import Augmentation, Schedule, TrainingSet
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import p_keep, softmax
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.util.threads import use_threads

AUGMENTED = Augmentation()
# Frames that are classified at once; by hand, more take memory and save no time.
_AT_ONCE = 32


@dataclass(frozen=True)
class Epoch:
    """Losses and success rates of one epoch.

    Attributes:
        epoch: From 1; 0 is the network that training started from.
        loss: Mean over the batches; of epoch 0, over the training split.
        training_success: Success rate (equation 10) of the same, percent.
        validation_loss: Of the validation split.
        validation_success: Of the validation split, percent.
    """

    epoch: int
    loss: float
    training_success: float
    validation_loss: float
    validation_success: float


def train(
    network: nn.Module,
    data: TrainingSet,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    schedule: Schedule,
    seed: int,
    on_epoch: Callable[[Epoch], None],
    *,
    augmentation: Augmentation = AUGMENTED,
    device: str = "cpu",
    evaluate_start: bool = False,
    checkpoint: Checkpoint | None = None,
    on_batch: Callable[[float, float], None] = lambda _loss, _success: None,
) -> list[Epoch]:
    """Train in place; the network is left as it was at the lowest validation loss.

    Args:
        network: Weights that need no gradient stay as they are.
        data: Prepared frames with labels.
        training: Indices into data.
        validation: Indices into data.
        schedule: How long and how fast to learn.
        seed: Of batches and augmentation. All that is drawn comes from one generator,
            so that a resumed run ends as an unbroken one.
        on_epoch: Called with each epoch as it ends.
        augmentation: How training frames are varied.
        device: cpu or cuda.
        evaluate_start: Whether the network as given is epoch 0, and left so if no other
            is better.
        checkpoint: Saved after each epoch; the run resumes from it where it exists.
        on_batch: Called with each batch's loss and success rate in percent.

    Returns:
        All epochs, also those from before the run was resumed.

    Raises:
        ValueError: A split is empty, or the loss is not finite from the beginning.
    """
    for name, split in (("training", training), ("validation", validation)):
        if not len(split):
            raise ValueError(f"the {name} split has no images; label more of them")
    network.to(device)
    data = at_hand(data, device)
    run = _Run(network, schedule, batches_per_epoch(schedule, len(training)), seed)
    state = checkpoint.load() if checkpoint else None
    if checkpoint is not None and state is not None:
        try:
            run.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise checkpoint.damaged() from error
    elif evaluate_start:
        fitted = _evaluate(network, data, training, schedule, device)
        held_out = _evaluate(network, data, validation, schedule, device)
        run.add(Epoch(0, *fitted, *held_out))
        on_epoch(run.history[-1])
    while not run.is_over():
        fitted = _train_epoch(run, data, training, augmentation, device, on_batch)
        held_out = _evaluate(network, data, validation, schedule, device)
        run.add(Epoch(run.done + 1, *fitted, *held_out))
        if checkpoint:
            checkpoint.save(run.state())
        on_epoch(run.history[-1])
    network.load_state_dict(run.best)
    return run.history


def best_epoch(history: list[Epoch]) -> Epoch:
    """The epoch of the lowest validation loss, the first of equal ones."""
    return min(history, key=lambda epoch: epoch.validation_loss)


def batches_per_epoch(schedule: Schedule, n: int) -> int:
    """Batches in an epoch; by default as many as have each of n frames once."""
    return schedule.batches or max(1, n // schedule.batch_size)


class _Run:
    """All that changes as a network is trained, and so what a checkpoint holds."""

    def __init__(
        self, network: nn.Module, schedule: Schedule, batches: int, seed: int
    ) -> None:
        self.network, self.schedule = network, schedule
        weights = [w for w in network.parameters() if w.requires_grad]
        self.optimiser = schedule.optimiser(weights)
        self.rate = schedule.rate(self.optimiser, batches)
        self.rng = np.random.default_rng(seed)
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] = {}

    def add(self, epoch: Epoch) -> None:
        """Add an epoch; ValueError where the loss of the first one is not finite."""
        if not self.history and not np.isfinite(epoch.validation_loss):
            raise ValueError(
                f"the validation loss is {epoch.validation_loss} after epoch "
                f"{epoch.epoch}: the training diverges; set a smaller "
                "training.learning_rate"
            )
        self.history.append(epoch)
        if best_epoch(self.history) is epoch:
            self.best = copy.deepcopy(self.network.state_dict())

    @property
    def done(self) -> int:
        """Number of epochs done."""
        return self.history[-1].epoch if self.history else 0

    def is_over(self) -> bool:
        """Whether all epochs are done, or more would give nothing better."""
        if not self.history:
            return False
        patience = self.schedule.patience
        since_best = self.done - best_epoch(self.history).epoch
        return (
            self.done >= self.schedule.epochs
            or (patience is not None and since_best >= patience)
            or not np.isfinite(self.history[-1].validation_loss)
        )

    def state(self) -> dict[str, Any]:
        """For a checkpoint: tensors and plain values."""
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

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.network.load_state_dict(state["network"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        use_threads(state["threads"])


def at_hand(data: TrainingSet, device: str) -> TrainingSet:
    """The data in the memory of a GPU, if half of what is free there is enough.

    Making batches on the CPU takes longer than a GPU needs to train on them.
    """
    if device == "cpu":
        return data
    free, _ = torch.cuda.mem_get_info()
    size = sum(values.nbytes for values in data.arrays())
    return data.on(device) if 2 * size <= free else data


def _train_epoch(
    run: _Run,
    data: TrainingSet,
    training: NDArray[np.int64],
    augmentation: Augmentation,
    device: str,
    on_batch: Callable[[float, float], None],
) -> tuple[float, float]:
    """Mean loss and success rate (%) over the batches of an epoch."""
    run.network.train()
    schedule, rng = run.schedule, run.rng
    torch.manual_seed(int(rng.integers(2**62)))  # of dropout
    if schedule.batches:
        batches = balanced(
            data.labels, training, schedule.batch_size, schedule.batches, rng
        )
    else:
        batches = _shuffled(training, schedule.batch_size, rng)
    results = []
    for indices in batches:
        output = run.network(data.augmented(indices, augmentation, rng).to(device))
        loss = data.loss(output, indices)
        run.optimiser.zero_grad()
        loss.backward()
        run.optimiser.step()
        run.rate.step()
        success = _success_rate(
            data.logits(output).cpu(), torch.from_numpy(data.labels[indices])
        )
        results.append((loss.item(), success))
        on_batch(*results[-1])
    return tuple(np.mean(results, axis=0).tolist())


def balanced(
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
    batch_size: int,
    n_batches: int,
    rng: np.random.Generator,
) -> Iterator[NDArray[np.int64]]:
    """Random batches of indices, as many of each class that there is (section 2.1.3).

    Frames of a rare class are drawn often.

    Args:
        labels: int64 (n,), of all frames.
        indices: int64 (m,), the frames to draw from.
        batch_size: Frames in a batch.
        n_batches: Number of batches.
        rng: Draws them.

    Returns:
        Batches, int64 (batch_size,).
    """
    by_class = [indices[labels[indices] == c] for c in np.unique(labels[indices])]
    for _ in range(n_batches):
        classes = rng.permutation(np.arange(batch_size) % len(by_class))
        yield np.array([rng.choice(by_class[c]) for c in classes])


def _shuffled(
    indices: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Whole batches, each index once at the most; all in one if they fill none."""
    order = rng.permutation(indices)
    for i in range(max(1, len(order) // batch_size)):
        yield order[i * batch_size : (i + 1) * batch_size]


def predict_logits(
    network: nn.Module,
    data: TrainingSet,
    indices: NDArray[np.int64],
    device: str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of frames, not augmented, and their labels.

    Args:
        network: On the device.
        data: Prepared frames with labels.
        indices: int64 (n,), of the frames.
        device: cpu or cuda.

    Returns:
        Logits, float32 (n, 3), and labels, int64 (n,), both on the CPU.
    """
    network.eval()
    with torch.no_grad():
        logits = [
            data.logits(network(data.batch(chunk).to(device))).cpu()
            for chunk in np.split(indices, range(_AT_ONCE, len(indices), _AT_ONCE))
        ]
    return torch.cat(logits), torch.from_numpy(data.labels[indices])


def _success_rate(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Success rate in percent (equation 10)."""
    return 100 * (logits.argmax(dim=1) == labels).float().mean().item()


def _evaluate(
    network: nn.Module,
    data: TrainingSet,
    indices: NDArray[np.int64],
    schedule: Schedule,
    device: str,
) -> tuple[float, float]:
    """Cross-entropy, classes weighted as in the batches, and success rate (%)."""
    logits, labels = predict_logits(network, data, indices, device)
    if schedule.batches:
        loss = balanced_loss(logits, labels)
    else:
        loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, _success_rate(logits, labels)


def balanced_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Cross-entropy in which every class present has the same weight.

    Args:
        logits: float (n, 3).
        labels: int64 (n,).
    """
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    by_class = [losses[labels == c].mean() for c in labels.unique()]
    return float(torch.stack(by_class).mean())


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature T that makes softmax(z / T) best calibrated, on held-out data.

    Guo et al. (2017), Proc. ICML, 1321. T is searched on a grid from 0.2 to 5.

    Args:
        logits: z, float (n, 3).
        labels: int64 (n,).
    """
    grid = np.geomspace(0.2, 5.0, 65)
    return float(min(grid, key=lambda t: balanced_loss(logits / t, labels)))


def calibrate(
    logits: torch.Tensor,
    labels: torch.Tensor,
    source: str,
    shares: tuple[float, ...] | None = None,
) -> Calibration:
    """Calibration by held-out images.

    Args:
        logits: float (n, 3).
        labels: int64 (n,).
        source: What images those are.
        shares: As in Calibration.
    """
    temperature = fit_temperature(logits, labels)
    kept = p_keep(softmax(logits.numpy(), temperature))
    hits, sure = labels.numpy() != Label.MISS, labels.numpy() == Label.HIT
    return Calibration(
        temperature, np.sort(kept[hits]), source, shares, np.sort(kept[sure])
    )
