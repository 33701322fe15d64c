"""Training the spot network: which candidates are spots, and what the frame is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.ke2018.training_set import Augmentation
from dials_cnn_screen.spots.candidates import PATCH, Candidates
from dials_cnn_screen.spots.network import (
    N_FRAME,
    N_SCALARS,
    CandidateBatch,
    SpotNetwork,
    Verdict,
    describe,
)
from dials_cnn_screen.training.loop import check_rate

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
        """The candidates of these frames."""
        return CandidateBatch(
            torch.from_numpy(self.patches[indices]).float(),
            torch.from_numpy(self.scalars[indices]),
            torch.from_numpy(self.present[indices]),
            torch.from_numpy(self.frame[indices]),
        )

    def augmented(
        self, indices: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
    ) -> CandidateBatch:
        """The same frames flipped and turned, as far as patches go.

        All of a batch alike. Shifts and intensity do not apply: a candidate stands in
        the middle of its patch, in units of the noise around it.
        """
        batch = self.batch(indices)
        # Drawn in any case, as in Dataset.
        turns, flipped = int(rng.integers(4)), rng.random() < 0.5
        patches = batch.patches
        if augmentation.quarter_turns:
            patches = torch.rot90(patches, turns, dims=(3, 4))
        if flipped and augmentation.flips:
            patches = patches.flip(3)
        return CandidateBatch(patches, batch.scalars, batch.present, batch.frame)

    def loss(self, verdict: Verdict, indices: np.ndarray) -> torch.Tensor:
        """Cross-entropy of the frames' classes, and of candidates of known truth."""
        device = verdict.scores.device
        labels = torch.from_numpy(self.labels[indices]).to(device)
        loss = nn.functional.cross_entropy(verdict.scores, labels)
        truth = torch.from_numpy(self.truth[indices]).to(device)
        known = ~torch.isnan(truth)
        if not known.any():
            return loss
        return loss + nn.functional.binary_cross_entropy_with_logits(
            verdict.spots[known], truth[known]
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
    """How the spot network learns: AdamW, the rate falling as a cosine.

    batches: in an epoch, as many frames of each class in each; None: every frame once.
    patience: as in Schedule. Raises ValueError for a learning_rate of 0 or less.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    batches: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)

    def optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            weights, lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def rate(
        self, optimiser: torch.optim.Optimizer, batches: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """What sets the learning rate after each batch; batches: in an epoch."""
        return torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, self.epochs * batches
        )


def spot_features(
    network: SpotNetwork, data: CandidateSet, indices: np.ndarray
) -> np.ndarray:
    """Features of the frames, float32 (n, f)."""
    network.eval()
    with torch.no_grad():
        parts = np.array_split(indices, -(-len(indices) // 256))
        return torch.cat([network(data.batch(p)).features for p in parts]).numpy()
