"""A network that classifies the spot candidates of a frame, then the frame by them.

Its input is the pixels around each candidate, at full resolution, and features of the
candidate and of the frame; it never learns where the tiles of a detector are. The spots
that it finds, and their positions, explain each prediction.

The network treats a frame as a set of candidates, as in Zaheer, M. et al. (2017),
NeurIPS 30, 3391, "Deep sets": the output does not depend on the order of the slots.

What the layers' widths are worth was measured by studies/ablation.py
(models/default.md). network_cpu.py is the same for one frame, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import PATCH, Candidates
from dials_cnn_screen.spots.configuration import (
    HEAD_LIMIT,
    N_COUNTS,
    SpotNetworkConfig,
)
from dials_cnn_screen.spots.features import N_FRAME, N_SCALARS, describe

# What an empty slot has for a spot's logit: a probability of 1e-13.
EMPTY_LOGIT = -30.0
# Share of what describes a frame that is left out at random in training, so that the
# head relies on the number of spots first (Srivastava et al., 2014, J. Mach. Learn.
# Res. 15, 1929).
HEAD_DROPOUT = 0.5


@dataclass(frozen=True, eq=False)
class CandidateBatch:
    """Candidates of b frames, k slots each.

    Attributes:
        patches: float32 (b, k, 2, 13, 13), asinh(z) and mask.
        scalars: float32 (b, k, 11), features of candidates.
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
        features: float32 (b, f), by which the classes are told; f = n_features of the
            configuration.
    """

    logits: torch.Tensor
    spot_logits: torch.Tensor
    features: torch.Tensor


class SpotNetwork(nn.Module):
    """Candidates to classes of frames and to spots.

    Each candidate is coded from its patch and features. The mean and maximum of the
    codes over the frame, with the frame's features, make its context. Each candidate is
    classified by its code and the context, since how a spot differs from noise depends
    on the noise. The expected number of spots tells the class of the frame; the head,
    which takes the context and the mean code of the spots too, corrects it by
    HEAD_LIMIT at most.
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
        self.count = nn.Sequential(
            nn.Linear(N_COUNTS, c.count), nn.ReLU(), nn.Linear(c.count, len(Label))
        )
        self.head = nn.Sequential(
            nn.Linear(c.n_features, c.head),
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
        described = nn.functional.dropout(
            torch.cat([context, of_spots], dim=-1), HEAD_DROPOUT, self.training
        )
        features = torch.cat([described, counts], dim=-1)  # (b, f)
        correction = HEAD_LIMIT * torch.tanh(self.head(features) / HEAD_LIMIT)  # (b, 3)
        return SpotOutput(self.count(counts) + correction, spot_logits, features)
