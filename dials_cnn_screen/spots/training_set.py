"""Training the spot network: which candidates are spots, and what the frame is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dials_cnn_screen.architecture import Augmentation, check_rate
from dials_cnn_screen.spots.candidates import PATCH, Candidates
from dials_cnn_screen.spots.eye import MODEL_SIGMA
from dials_cnn_screen.spots.features import N_FRAME, N_SCALARS, describe
from dials_cnn_screen.spots.network import CandidateBatch, SpotNetwork, SpotOutput
from dials_cnn_screen.util.devices import take

# A candidate this near to a spot, in pixels along slow and fast, is that spot.
NEAR = 2.5
# Spots between these significances teach nothing: whether one sees them is chance.
FAINT, VISIBLE = 3.0, MODEL_SIGMA


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """Candidates of n frames, k slots each, with the truth.

    Attributes:
        patches: float16 (n, k, 2, 13, 13).
        scalars: float32 (n, k, 11).
        present: bool (n, k), whether a slot is filled.
        frame: float32 (n, 14).
        truth: float32 (n, k), 1 for a visible spot, 0 for none, NaN where not known.
        labels: int64 (n,).
    """

    patches: NDArray[np.float16]
    scalars: NDArray[np.float32]
    present: NDArray[np.bool_]
    frame: NDArray[np.float32]
    truth: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, k: int) -> CandidateSet:
        """A set for n frames of k candidates at most."""
        return cls(
            patches=np.zeros((n, k, 2, PATCH, PATCH), np.float16),
            scalars=np.zeros((n, k, N_SCALARS), np.float32),
            present=np.zeros((n, k), bool),
            frame=np.zeros((n, N_FRAME), np.float32),
            truth=np.full((n, k), np.nan, np.float32),
            labels=np.zeros(n, np.int64),
        )

    def put(
        self,
        i: int,
        prepared: Candidates,
        label: int,
        truth: NDArray[np.float32] | None = None,
    ) -> None:
        """Store the candidates of frame i; truth: of each of them, None: not known."""
        n = len(prepared.z)
        scalars, frame = describe(prepared)
        self.patches[i, :n] = prepared.patches
        self.scalars[i, :n] = scalars
        self.present[i, :n] = True
        self.frame[i] = frame
        self.truth[i, :n] = np.nan if truth is None else truth
        self.labels[i] = label

    def on(self, device: str) -> CandidateSet:
        """The same, all but the labels as tensors on a device."""
        arrays = {name: x for name, x in vars(self).items() if name != "labels"}
        there = {name: torch.tensor(x, device=device) for name, x in arrays.items()}
        return replace(self, **there)

    def batch(self, indices: NDArray[np.int64]) -> CandidateBatch:
        """The candidates of these frames."""
        return CandidateBatch(
            take(self.patches, indices).float(),
            take(self.scalars, indices),
            take(self.present, indices),
            take(self.frame, indices),
        )

    def augmented(
        self,
        indices: NDArray[np.int64],
        augmentation: Augmentation,
        rng: np.random.Generator,
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

    def logits(self, output: SpotOutput) -> torch.Tensor:
        """The class logits (b, 3)."""
        return output.logits

    def loss(self, output: SpotOutput, indices: NDArray[np.int64]) -> torch.Tensor:
        """Cross-entropy of the frames' classes, and of candidates of known truth."""
        device = output.logits.device
        labels = torch.from_numpy(self.labels[indices]).to(device)
        loss = nn.functional.cross_entropy(output.logits, labels)
        truth = take(self.truth, indices).to(device)
        known = ~torch.isnan(truth)
        if not known.any():
            return loss
        return loss + nn.functional.binary_cross_entropy_with_logits(
            output.spot_logits[known], truth[known]
        )

    def arrays(self) -> Iterator[NDArray]:
        """All but the labels."""
        return (values for name, values in vars(self).items() if name != "labels")


def match_spots(
    candidates: Candidates,
    spots: NDArray[np.float64],
    significance: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Truth of each candidate: 1 near a visible spot, NaN near a faint one, else 0.

    Args:
        candidates: n of them.
        spots: (m, 2), (slow, fast) pixels.
        significance: (m,), standard deviations.

    Returns:
        float32 (n,).
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

    Attributes:
        epochs: Passes.
        batch_size: Frames.
        learning_rate: At the start; it falls to 0.
        weight_decay: Of AdamW.
        batches: In an epoch, as many frames of each class in each; None: every frame
            once.
        patience: Stop after so many epochs that were no better; None: never.

    Raises:
        ValueError: A learning_rate of 0 or less.
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
        """What changes the weights."""
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


# From fresh weights, and from a model: it has learned what a spot is, so less time and
# smaller steps are enough.
SHORT = SpotSchedule(epochs=40, batches=50)
SHORT_FROM_MODEL = SpotSchedule(
    epochs=15, batches=10, batch_size=32, learning_rate=1e-3
)


def spot_features(
    network: SpotNetwork, data: CandidateSet, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Features of the frames, float32 (n, f)."""
    network.eval()
    with torch.no_grad():
        chunks = np.array_split(indices, -(-len(indices) // 256))
        return torch.cat([network(data.batch(c)).features for c in chunks]).numpy()
