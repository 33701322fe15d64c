"""Training the spot network: which candidates are spots, and what the frame is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.candidates import PATCH, Candidates
from dials_cnn_screen.spot_network import (
    N_FRAME,
    N_SCALARS,
    CandidateBatch,
    SpotNetwork,
    Verdict,
    describe,
)

# A candidate this near to a spot, in pixels along slow and fast, is that spot.
NEAR = 2.5
# Spots between these significances teach nothing: whether one sees them is chance.
FAINT, VISIBLE = 3.0, 5.5


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """Candidates of n frames, k slots each, with the truth.

    patches: float16 (n, k, 2, 13, 13). scalars: float32 (n, k, 9). present: bool
    (n, k). frame: float32 (n, 14). truth: float32 (n, k), 1 for a visible spot, 0 for
    none, NaN between. labels: int64 (n,).
    """

    patches: np.ndarray
    scalars: np.ndarray
    present: np.ndarray
    frame: np.ndarray
    truth: np.ndarray
    labels: np.ndarray

    @classmethod
    def empty(cls, n: int, k: int) -> CandidateSet:
        return cls(
            patches=np.zeros((n, k, 2, PATCH, PATCH), np.float16),
            scalars=np.zeros((n, k, N_SCALARS), np.float32),
            present=np.zeros((n, k), bool),
            frame=np.zeros((n, N_FRAME), np.float32),
            truth=np.full((n, k), np.nan, np.float32),
            labels=np.zeros(n, np.int64),
        )

    def put(
        self, i: int, candidates: Candidates, truth: np.ndarray, label: int
    ) -> None:
        """Store the candidates of frame i."""
        n = len(candidates.z)
        scalars, frame = describe(candidates)
        self.patches[i, :n] = candidates.patches
        self.scalars[i, :n] = scalars
        self.present[i, :n] = True
        self.frame[i] = frame
        self.truth[i, :n] = truth
        self.labels[i] = label

    def batch(self, indices: np.ndarray) -> CandidateBatch:
        return CandidateBatch(
            torch.from_numpy(self.patches[indices]).float(),
            torch.from_numpy(self.scalars[indices]),
            torch.from_numpy(self.present[indices]),
            torch.from_numpy(self.frame[indices]),
        )


def match(
    candidates: Candidates, spots: np.ndarray, significance: np.ndarray
) -> np.ndarray:
    """Truth of each candidate from the spots (n, 2) (slow, fast) and significances.

    1 near a visible spot, NaN near a faint one, otherwise 0; float32.
    """
    truth = np.zeros(len(candidates.z), np.float32)
    if not len(spots):
        return truth
    # A pixel's centre lies half a pixel from its corner.
    slow = np.abs(candidates.slow[:, None] + 0.5 - spots[None, :, 0])
    fast = np.abs(candidates.fast[:, None] + 0.5 - spots[None, :, 1])
    near = (slow <= NEAR) & (fast <= NEAR)
    best = np.where(near, significance[None, :], 0).max(axis=1)
    truth[best >= FAINT] = np.nan
    truth[best >= VISIBLE] = 1
    return truth


@dataclass(frozen=True)
class SpotSchedule:
    """How the spot network learns: AdamW, the rate falling as a cosine."""

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3


def train_spots(
    network: SpotNetwork,
    data: CandidateSet,
    training: np.ndarray,
    validation: np.ndarray,
    schedule: SpotSchedule,
    seed: int,
    on_epoch: Callable[[int, float, float, float], None],
) -> None:
    """Train in place; the network is left as it was at the best validation loss.

    on_epoch: is given the epoch, the training loss, the validation loss and the
    fraction of validation frames of which the class is right.
    """
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
    )
    steps = schedule.epochs * (len(training) // schedule.batch_size)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, best_loss = {}, np.inf
    for epoch in range(1, schedule.epochs + 1):
        network.train()
        losses = []
        for indices in _shuffled(training, schedule.batch_size, rng):
            batch = _turn(data.batch(indices), rng)
            verdict = network(batch)
            loss = _frame_loss(verdict.scores, data, indices)
            loss = loss + _spot_loss(verdict.spots, data, indices)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            losses.append(loss.item())
        scores = spot_scores(network, data, validation)
        labels = torch.from_numpy(data.labels[validation])
        validation_loss = nn.functional.cross_entropy(scores, labels).item()
        right = (scores.argmax(dim=1) == labels).float().mean().item()
        if validation_loss < best_loss:
            best_loss, best = validation_loss, copy.deepcopy(network.state_dict())
        on_epoch(epoch, float(np.mean(losses)), validation_loss, right)
    network.load_state_dict(best)


def spot_scores(
    network: SpotNetwork, data: CandidateSet, indices: np.ndarray
) -> torch.Tensor:
    """Class scores z (n, 3) of the frames."""
    return torch.cat([v.scores for v in _verdicts(network, data, indices)])


def spot_features(
    network: SpotNetwork, data: CandidateSet, indices: np.ndarray
) -> np.ndarray:
    """Features of the frames, float32 (n, f)."""
    return torch.cat([v.features for v in _verdicts(network, data, indices)]).numpy()


def _verdicts(
    network: SpotNetwork, data: CandidateSet, indices: np.ndarray
) -> Iterator[Verdict]:
    """Verdicts on the frames, 256 at once."""
    network.eval()
    with torch.no_grad():
        for part in np.array_split(indices, -(-len(indices) // 256)):
            yield network(data.batch(part))


def _shuffled(
    indices: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    order = rng.permutation(indices)
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def _turn(batch: CandidateBatch, rng: np.random.Generator) -> CandidateBatch:
    """The same frames flipped and turned, as far as patches go."""
    patches = torch.rot90(batch.patches, int(rng.integers(4)), dims=(3, 4))
    if rng.random() < 0.5:
        patches = patches.flip(3)
    return CandidateBatch(patches, batch.scalars, batch.present, batch.frame)


def _frame_loss(
    scores: torch.Tensor, data: CandidateSet, indices: np.ndarray
) -> torch.Tensor:
    return nn.functional.cross_entropy(scores, torch.from_numpy(data.labels[indices]))


def _spot_loss(
    logits: torch.Tensor, data: CandidateSet, indices: np.ndarray
) -> torch.Tensor:
    truth = torch.from_numpy(data.truth[indices])
    known = ~torch.isnan(truth)
    if not known.any():
        return logits.new_zeros(())
    return nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known])
