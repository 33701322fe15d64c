"""A network that classifies spot candidates one by one, then the frame by all of them.

It looks at what is around each candidate, at full resolution, and at how the candidates
of the frame are as a whole; it never learns where the tiles of a detector are. Its
number of spots, and their places, explain each decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import DEPTHS, LEVELS, PATCH, Candidates

N_SCALARS = 9
N_FRAME = len(LEVELS) + len(DEPTHS) + 3
# Candidates this near to each other are neighbours, pixels; those whose distances from
# the beam differ by no more than RING may be of one powder ring.
NEIGHBOURHOOD, RING = 24.0, 2.0


@dataclass(frozen=True)
class SpotNetworkConfig:
    """Widths of the layers: of a candidate's, the frame's context, and the head's."""

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

    patches: float (b, k, 2, 13, 13), asinh(z) and mask. scalars: float (b, k, 9).
    present: bool (b, k), whether a slot is filled. frame: float (b, 14).
    """

    patches: torch.Tensor
    scalars: torch.Tensor
    present: torch.Tensor
    frame: torch.Tensor

    def to(self, device: str) -> CandidateBatch:
        return CandidateBatch(*(part.to(device) for part in vars(self).values()))


def describe(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that go with the patches: of each candidate (n, 9), of the frame (14,).

    Logarithms or the like, all of order one; float32.
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
    )
    frame = np.concatenate(
        [
            np.log1p(candidates.total) / 4,
            np.log1p(candidates.low) / 4,
            [np.log(candidates.spread), np.log1p(n) / 4],
            [np.log1p(candidates.used) / 10],
        ]
    )
    return scalars.astype(np.float32), frame.astype(np.float32)


def _neighbourhood(candidates: Candidates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a candidate lies among the others: float (n,) each, about one.

    Logarithms of the distance to the next candidate, of the number of those near by and
    of the number at the same distance from the beam: defects and scratches come in
    clusters, grains of ice and salt in rings, and spots of protein in neither.
    """
    slow, fast = (c[:, None] - c for c in (candidates.slow, candidates.fast))
    # Whole numbers, squared: exact, and much faster than distances.
    square = (slow * slow + fast * fast).astype(np.float64)
    np.fill_diagonal(square, np.inf)
    radius = candidates.radius
    ring = np.abs(radius[:, None] - radius) <= RING
    return (
        np.log1p(np.sqrt(square.min(axis=1, initial=1e8))) / 4,
        np.log1p(np.count_nonzero(square <= NEIGHBOURHOOD**2, axis=1)) / 2,
        np.log1p(np.count_nonzero(ring, axis=1) - 1) / 2,
    )


def batch_of_one(candidates: Candidates) -> CandidateBatch:
    """The candidates of one frame as the network takes them, at least one slot."""
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
    """What the network makes of b frames of k candidates.

    Attributes:
        logits: (b, 3), of the classes in the order of Label.
        spot_logits: (b, k), of a candidate's being a spot, -30 where a slot is empty.
        features: (b, f), what the classes are told by.
    """

    logits: torch.Tensor
    spot_logits: torch.Tensor
    features: torch.Tensor


class SpotNetwork(nn.Module):
    """Candidates to classes of frames and to spots.

    Each candidate is coded from its patch and numbers; the mean and maximum of the
    codes over the frame (its context) are given back to each candidate, since what a
    spot looks like beside the noise depends on the noise; the head sees the context
    and the expected number of spots.
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
        """Classes of the frames of a batch, and which candidates are spots."""
        present = batch.present.unsqueeze(-1)  # (b, k, 1)
        patches = self.patch(batch.patches.flatten(start_dim=2))  # (b, k, patch)
        code = self.code(torch.cat([patches, batch.scalars], dim=-1)) * present
        # code: (b, k, candidate), 0 in empty slots
        n = present.sum(dim=1).clamp(min=1)  # (b, 1)
        pooled = torch.cat([code.sum(dim=1) / n, code.amax(dim=1)], dim=-1)
        context = self.context(torch.cat([pooled, batch.frame], dim=-1))  # (b, context)
        around = context.unsqueeze(1).expand(-1, code.shape[1], -1)  # (b, k, context)
        spot_logits = self.spot(torch.cat([code, around], dim=-1)).squeeze(-1)  # (b, k)
        spot_logits = spot_logits.masked_fill(~batch.present, -30.0)
        p_spot = torch.sigmoid(spot_logits)  # (b, k)
        # The number of spots as the labels count them: its mean and its variance.
        number = p_spot.sum(dim=1, keepdim=True)  # (b, 1)
        variance = (p_spot * (1 - p_spot)).sum(dim=1, keepdim=True)  # (b, 1)
        of_spots = (code * p_spot.unsqueeze(-1)).sum(dim=1) / (number + 1)
        counts = torch.cat(
            [number.sqrt(), torch.log1p(number), torch.log1p(variance), number / 20],
            dim=1,
        )  # (b, 4)
        features = torch.cat([context, of_spots, counts], dim=-1)  # (b, f)
        return SpotOutput(self.head(features), spot_logits, features)
