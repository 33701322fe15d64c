"""What each spot candidate does to the answer of the network of spots."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.decision import keep_score, probabilities
from dials_cnn_screen.spots.candidates import LEVELS, Candidates, strongest
from dials_cnn_screen.spots.network import SpotNetwork, batch_of_one

# P(Hit) + P(Maybe) of an image that is no Miss (section 2.1).
HALF = 0.5


@dataclass(frozen=True, eq=False)
class Influence:
    """What the n candidates of a frame do to its answer.

    p_spot: float64 (n,), the chance of being a spot. without: float64 (n,), P(Hit) +
    P(Maybe) of the frame without this candidate. weight: float64 (n,), how much the
    candidate adds to the logarithm of (P(Hit) + P(Maybe)) / P(Miss): that still tells
    candidates apart where no single one of them changes the probability. deciding: how
    many of the likeliest spots would have to go to make it a Miss; None if it is one,
    or would not be one without any candidate.
    """

    p_spot: np.ndarray
    without: np.ndarray
    weight: np.ndarray
    deciding: int | None


def influence(
    network: SpotNetwork, candidates: Candidates, temperature: float
) -> Influence:
    """Leave out each candidate in turn, and then the likeliest spots together.

    temperature: of the model's calibration.
    """
    n = len(candidates.z)
    everything = np.arange(n)
    scores, logits = _answer(network, candidates)
    lone = [
        _answer(network, take(candidates, np.delete(everything, i)))[0]
        for i in everything
    ]
    lone = np.array(lone).reshape(n, len(Label))
    weight = _log_odds(scores, temperature) - _log_odds(lone, temperature)
    deciding = None
    if keep_score(probabilities(scores, temperature)) >= HALF:
        deciding = _count_deciding(network, candidates, temperature, logits[:n])
    return Influence(
        p_spot=1 / (1 + np.exp(-logits[:n].astype(np.float64))),
        without=keep_score(probabilities(lone, temperature)),
        weight=weight,
        deciding=deciding,
    )


def take(candidates: Candidates, chosen: Sequence[int]) -> Candidates:
    """The frame with the chosen candidates only, as if the others were not on it."""
    strength = strongest(candidates.z, candidates.wide)
    left_out = np.delete(strength, chosen)
    fewer = [np.count_nonzero(left_out >= level) for level in LEVELS]
    names = ("slow", "fast", "patches", "z", "wide", "noise", "skew", "radius")
    return dataclasses.replace(
        candidates,
        **{name: getattr(candidates, name)[chosen] for name in names},
        total=candidates.total - fewer,
    )


def _count_deciding(
    network: SpotNetwork,
    candidates: Candidates,
    temperature: float,
    logits: np.ndarray,
) -> int | None:
    order = np.argsort(-logits, kind="stable")
    for k in range(1, len(order) + 1):
        scores, _ = _answer(network, take(candidates, np.sort(order[k:])))
        if keep_score(probabilities(scores, temperature)) < HALF:
            return k
    return None


def _answer(
    network: SpotNetwork, candidates: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Class scores (3,) and the logits of the candidates, at least one."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        verdict = network(batch_of_one(candidates).to(device))
    return verdict.scores[0].cpu().numpy(), verdict.spots[0].cpu().numpy()


def _log_odds(scores: np.ndarray, temperature: float) -> np.ndarray:
    """ln((P(Hit) + P(Maybe)) / P(Miss)) of scores (..., 3)."""
    z = scores.astype(np.float64) / temperature
    return np.logaddexp(z[..., Label.HIT], z[..., Label.MAYBE]) - z[..., Label.MISS]
