"""What each spot candidate does to the output of the spot network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import (
    PAPER_THRESHOLD,
    log_odds,
    p_keep,
    softmax,
)
from dials_cnn_screen.spots.candidates import LEVELS, Candidates, strongest
from dials_cnn_screen.spots.network import SpotNetwork, batch_of_one


@dataclass(frozen=True, eq=False)
class Influence:
    """What the n candidates of a frame do to its classification.

    Attributes:
        p_keep: P(Hit) + P(Maybe) of the frame.
        p_spot: float64 (n,), probability of being a spot.
        without: float64 (n,), P(Hit) + P(Maybe) of the frame without this candidate.
        weight: float64 (n,), how much the candidate adds to the logarithm of
            (P(Hit) + P(Maybe)) / P(Miss): that still tells candidates apart where no
            single one of them changes the probability.
        deciding: How many of the likeliest spots would have to go to make it a Miss;
            None if it is one, or would not be one without any candidate.
    """

    p_keep: float
    p_spot: NDArray[np.float64]
    without: NDArray[np.float64]
    weight: NDArray[np.float64]
    deciding: int | None


def influence(
    network: SpotNetwork, candidates: Candidates, temperature: float
) -> Influence:
    """Leave out each candidate in turn, and then the likeliest spots together.

    Args:
        network: In evaluation mode.
        candidates: Those of one frame.
        temperature: Of the model's calibration; divides the logits.
    """
    n = len(candidates.z)
    every = np.arange(n)
    logits, spot_logits = _run(network, candidates)  # (3,), (n,)
    logits_without = np.array(
        [_run(network, take(candidates, np.delete(every, i)))[0] for i in every]
    ).reshape(n, len(Label))
    p_keep_all = float(p_keep(softmax(logits, temperature)))
    deciding = None
    if p_keep_all >= PAPER_THRESHOLD:
        deciding = _count_deciding(network, candidates, temperature, spot_logits)
    return Influence(
        p_keep=p_keep_all,
        p_spot=1 / (1 + np.exp(-spot_logits.astype(np.float64))),
        without=p_keep(softmax(logits_without, temperature)),
        weight=log_odds(logits, temperature) - log_odds(logits_without, temperature),
        deciding=deciding,
    )


def take(candidates: Candidates, chosen: NDArray[np.int64]) -> Candidates:
    """The frame with the candidates of these indices only, as if it had no others."""
    strength = strongest(candidates.z, candidates.summed)
    left_out = np.delete(strength, chosen)
    fewer = [np.count_nonzero(left_out >= level) for level in LEVELS]
    names = (
        "slow",
        "fast",
        "patches",
        "z",
        "summed",
        "noise",
        "skew",
        "radius",
        "along_ring",
    )
    return dataclasses.replace(
        candidates,
        **{name: getattr(candidates, name)[chosen] for name in names},
        total=candidates.total - fewer,
    )


def _count_deciding(
    network: SpotNetwork,
    candidates: Candidates,
    temperature: float,
    spot_logits: NDArray[np.float32],
) -> int | None:
    """How many of the likeliest spots have to go for a Miss; None: not even all do."""
    order = np.argsort(-spot_logits, kind="stable")
    for k in range(1, len(order) + 1):
        logits, _ = _run(network, take(candidates, np.sort(order[k:])))
        if p_keep(softmax(logits, temperature)) < PAPER_THRESHOLD:
            return k
    return None


def _run(
    network: SpotNetwork, candidates: Candidates
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits of the classes (3,) and of the n candidates (n,)."""
    device = str(next(network.parameters()).device)
    with torch.inference_mode():
        output = network(batch_of_one(candidates).to(device))
    # Without candidates one slot is empty.
    n = len(candidates.z)
    return output.logits[0].cpu().numpy(), output.spot_logits[0, :n].cpu().numpy()
