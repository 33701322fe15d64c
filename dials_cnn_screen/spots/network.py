"""A network that classifies the spot candidates of a frame, then the frame by them.

Its input is the pixels around each candidate, at full resolution, and features of the
candidate and of the frame; it never learns where the tiles of a detector are. The spots
that it finds, and their positions, explain each prediction.

The network treats a frame as a set of candidates, as in Zaheer, M. et al. (2017),
NeurIPS 30, 3391, "Deep sets": the output does not depend on the order of the slots.

What the layers' widths and each group of features are worth was measured by
studies/ablation.py (models/default.md). The factors that bring features to order one
were chosen by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import DEPTHS, LEVELS, PATCH, Candidates

# Features of a candidate, and of a frame: what describe gives.
N_SCALARS = 9
N_FRAME = len(LEVELS) + len(DEPTHS) + 3
# Candidates up to this far from each other are neighbours, and those whose distances
# from the beam differ by up to RING may be of one powder ring; pixels. By hand.
NEIGHBOURHOOD, RING = 24.0, 2.0
# What an empty slot has for a spot's logit: a probability of 1e-13.
EMPTY_LOGIT = -30.0


@dataclass(frozen=True)
class SpotNetworkConfig:
    """Widths of the layers.

    By hand; half of these widths is a little worse (studies/ablation.py).

    Attributes:
        patch: Of the code of a patch.
        candidate: Of the code of a candidate, patch and features.
        context: Of the code of the frame.
        head: Of the hidden layer that tells the classes.

    Raises:
        ValueError: A width is not an integer from 1 to 1024.
    """

    patch: int = 64
    candidate: int = 48
    context: int = 48
    head: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or not 1 <= value <= 1024:
                raise ValueError(f"{name}={value} is not from 1 to 1024")


@dataclass(frozen=True, eq=False)
class CandidateBatch:
    """Candidates of b frames, k slots each.

    Attributes:
        patches: float32 (b, k, 2, 13, 13), asinh(z) and mask.
        scalars: float32 (b, k, 9), features of candidates.
        present: bool (b, k), whether a slot is filled.
        frame: float32 (b, 14), features of frames.
    """

    patches: torch.Tensor
    scalars: torch.Tensor
    present: torch.Tensor
    frame: torch.Tensor

    def to(self, device: str) -> CandidateBatch:
        """The same on a device."""
        return CandidateBatch(*(part.to(device) for part in vars(self).values()))


def describe(
    candidates: Candidates,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features that go with the patches, logarithms or the like, all of order one.

    Args:
        candidates: n of them.

    Returns:
        Of each candidate, float32 (n, 9): significance of pixel and weighted sum,
        noise, skewness, distance from the beam, rank, and the three of _neighbourhood.
        Of the frame, float32 (14,): maxima of each of LEVELS, low pixels of each of
        DEPTHS, spread of weighted sums, number of candidates, used pixels.
    """
    n = len(candidates.z)
    scalars = np.stack(
        [
            np.arcsinh(candidates.z),
            np.arcsinh(candidates.summed),
            np.log(candidates.noise),
            candidates.skew,
            np.log1p(candidates.radius) / 4,
            np.log1p(np.arange(n)) / 4,
            *_neighbourhood(candidates),
        ],
        axis=1,
    )  # (n, 9)
    frame = np.concatenate(
        [
            np.log1p(candidates.total) / 4,
            np.log1p(candidates.low) / 4,
            [np.log(candidates.spread), np.log1p(n) / 4],
            [np.log1p(candidates.used) / 10],
        ]
    )  # (14,)
    return scalars.astype(np.float32), frame.astype(np.float32)


def _neighbourhood(
    candidates: Candidates,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Neighbourhood features: how a candidate lies among the n of its frame.

    Defects and scratches come in clusters, grains of ice and salt in rings, and spots
    of protein in neither.

    Returns:
        Logarithms, float64 (n,) each, of order one: of the distance to the nearest
        candidate, of how many are within NEIGHBOURHOOD, and of how many others are at
        the same distance from the beam, within RING.
    """
    slow, fast = (c[:, None] - c for c in (candidates.slow, candidates.fast))  # (n, n)
    # Integers, squared: exact, and much faster than distances.
    square = (slow * slow + fast * fast).astype(np.float64)  # (n, n), pixels^2
    np.fill_diagonal(square, np.inf)
    radius = candidates.radius  # (n,), pixels
    ring = np.abs(radius[:, None] - radius) <= RING  # (n, n)
    return (
        np.log1p(np.sqrt(square.min(axis=1, initial=1e8))) / 4,
        np.log1p(np.count_nonzero(square <= NEIGHBOURHOOD**2, axis=1)) / 2,
        np.log1p(np.count_nonzero(ring, axis=1) - 1) / 2,
    )


def batch_of_one(candidates: Candidates) -> CandidateBatch:
    """The candidates of one frame as the network takes them: b = 1, k = max(n, 1)."""
    n = len(candidates.z)
    scalars, frame = describe(candidates)
    empty = max(1 - n, 0)
    return CandidateBatch(
        patches=torch.from_numpy(
            np.pad(candidates.patches, ((0, empty), (0, 0), (0, 0), (0, 0)))
        )[None],
        scalars=torch.from_numpy(np.pad(scalars, ((0, empty), (0, 0))))[None],
        present=torch.arange(n + empty)[None] < n,
        frame=torch.from_numpy(frame)[None],
    )


class SpotOutput(NamedTuple):
    """What the network gives for b frames of k candidates.

    Attributes:
        logits: float32 (b, 3), of the classes in the order of Label.
        spot_logits: float32 (b, k), ln(p / (1 - p)) of the probability p that a
            candidate is a spot; EMPTY_LOGIT where a slot is empty.
        features: float32 (b, f), by which the head tells the classes; f = context +
            candidate + 4 of the configuration.
    """

    logits: torch.Tensor
    spot_logits: torch.Tensor
    features: torch.Tensor


class SpotNetwork(nn.Module):
    """Candidates to classes of frames and to spots.

    Each candidate is coded from its patch and features. The mean and maximum of the
    codes over the frame, with the frame's features, make its context. Each candidate is
    classified by its code and the context, since how a spot differs from noise depends
    on the noise. The head takes the context, the mean code of the spots and the
    expected number of spots.
    """

    def __init__(self, config: SpotNetworkConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.patch = nn.Sequential(
            nn.Linear(2 * PATCH * PATCH, c.patch),
            nn.ReLU(),
            nn.Linear(c.patch, c.patch),
        )
        self.code = nn.Sequential(
            nn.ReLU(), nn.Linear(c.patch + N_SCALARS, c.candidate), nn.ReLU()
        )
        self.context = nn.Sequential(
            nn.Linear(2 * c.candidate + N_FRAME, c.context), nn.ReLU()
        )
        self.spot = nn.Sequential(
            nn.Linear(c.candidate + c.context, c.candidate),
            nn.ReLU(),
            nn.Linear(c.candidate, 1),
        )
        self.head = nn.Sequential(
            nn.Linear(c.context + c.candidate + 4, c.head),
            nn.ReLU(),
            nn.Linear(c.head, len(Label)),
        )

    def forward(self, batch: CandidateBatch) -> SpotOutput:
        """Classes of the b frames of a batch, and which of k candidates are spots."""
        present = batch.present.unsqueeze(-1)  # (b, k, 1)
        flat = batch.patches.flatten(start_dim=2)  # (b, k, 2 * 13 * 13)
        patches = self.patch(flat)  # (b, k, patch)
        code = self.code(torch.cat([patches, batch.scalars], dim=-1)) * present
        # code: (b, k, candidate), 0 in empty slots
        n = present.sum(dim=1).clamp(min=1)  # (b, 1)
        mean, most = code.sum(dim=1) / n, code.amax(dim=1)  # (b, candidate) each
        pooled = torch.cat([mean, most, batch.frame], dim=-1)  # (b, 2 candidate + 14)
        context = self.context(pooled)  # (b, context)
        around = context.unsqueeze(1).expand(-1, code.shape[1], -1)  # (b, k, context)
        spot_logits = self.spot(torch.cat([code, around], dim=-1)).squeeze(-1)  # (b, k)
        spot_logits = spot_logits.masked_fill(~batch.present, EMPTY_LOGIT)
        p_spot = torch.sigmoid(spot_logits)  # (b, k)
        # Mean and variance of the number of spots, were candidates independent.
        number = p_spot.sum(dim=1, keepdim=True)  # (b, 1)
        variance = (p_spot * (1 - p_spot)).sum(dim=1, keepdim=True)  # (b, 1)
        of_spots = (code * p_spot.unsqueeze(-1)).sum(dim=1) / (number + 1)
        # of_spots: (b, candidate)
        counts = torch.cat(
            [number.sqrt(), torch.log1p(number), torch.log1p(variance), number / 20],
            dim=1,
        )  # (b, 4)
        features = torch.cat([context, of_spots, counts], dim=-1)  # (b, f)
        return SpotOutput(self.head(features), spot_logits, features)
