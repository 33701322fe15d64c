"""Why the default model classified a frame as it did: what each candidate adds."""

from __future__ import annotations

import numpy as np

from dials_cnn_screen.architecture import Explanation, Mark
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.spots.candidates import Candidates
from dials_cnn_screen.spots.influence import Influence, influence
from dials_cnn_screen.spots.network import SpotNetwork

# The text gives probabilities to three digits: less of a change is none.
_NO_CHANGE = 0.0005


def explain_candidates(
    network: SpotNetwork, candidates: Candidates, temperature: float
) -> Explanation:
    """Marks on the candidates of a frame, red for a hit and blue against one.

    Args:
        network: In evaluation mode.
        candidates: Those of the frame.
        temperature: Of the model's calibration; divides the logits.
    """
    of = influence(network, candidates, temperature)
    numbers = [
        {
            "slow": int(candidates.slow[i]),
            "fast": int(candidates.fast[i]),
            "p_spot": round(float(of.p_spot[i]), 4),
            "without": round(float(of.without[i]), 4),
            "weight": round(float(of.weight[i]), 4),
        }
        for i in range(len(of.weight))
    ]
    return Explanation(
        sentences=_describe(candidates, of),
        marks=_mark(candidates, of),
        numbers={"deciding": of.deciding, "candidates": numbers},
    )


def _describe(candidates: Candidates, of: Influence) -> list[str]:
    """How many candidates and spots there are, and which of them decide."""
    n, n_spots = len(of.weight), int(np.count_nonzero(of.p_spot > 0.5))
    if not n:
        return ["Nothing on the frame stands out from the background."]
    likelier = f"{n_spots} are likelier Bragg spots"
    if n_spots < 2:
        likelier = f"{n_spots or 'none'} is likelier a Bragg spot"
    sentences = [
        f"The model found {n} candidate{'s' * (n != 1)}, the strongest local maxima; "
        f"{likelier} than not. By the rule of the paper a Hit has "
        f"{HIT_SPOTS} spots or more, a Maybe {MAYBE_SPOTS} or more; the network weighs "
        "all candidates, doubtful ones too, so that its class may differ.",
        "Spots have large marks, other candidates small ones. Red raises P(Hit) + "
        "P(Maybe), blue lowers it, grey hardly changes it; the weight is the change of "
        "ln((P(Hit) + P(Maybe)) / P(Miss)).",
    ]

    def place(i: int) -> str:
        return f"({candidates.slow[i]}, {candidates.fast[i]})"

    best, worst = int(of.weight.argmax()), int(of.weight.argmin())
    if np.abs(of.without - of.p_keep).max() < _NO_CHANGE:
        sentences.append(
            f"No single candidate changes P(Hit) + P(Maybe) = {of.p_keep:.3f}; the one "
            f"at {place(best)} has the largest weight."
        )
    else:
        sentences += [
            f"The candidate at {place(i)} counts most {side} a hit: without it P(Hit) "
            f"+ P(Maybe) would be {of.without[i]:.3f} instead of {of.p_keep:.3f}."
            for i, side, sign in ((best, "for", 1), (worst, "against", -1))
            if sign * of.weight[i] > 0
        ]
    if of.deciding is not None:
        spots = (
            f"{of.deciding} likeliest spots" if of.deciding > 1 else "likeliest spot"
        )
        sentences.append(f"Without the {spots} it would be a Miss.")
    elif of.p_keep >= PAPER_THRESHOLD:
        sentences.append(
            "Without any of them it would still not be a Miss: the background decides."
        )
    return sentences


def _mark(candidates: Candidates, of: Influence) -> list[Mark]:
    """A circle around each candidate, that of a spot large; shares go by the weight."""
    most = np.abs(of.weight).max(initial=1e-9)
    return [
        Mark(
            slow=int(candidates.slow[i]),
            fast=int(candidates.fast[i]),
            share=float(of.weight[i] / most),
            large=bool(of.p_spot[i] > 0.5),
            text=f"P(spot) {of.p_spot[i]:.2f}, weight {of.weight[i]:+.2f}; without it "
            f"P(Hit) + P(Maybe) {of.without[i]:.3f}",
        )
        for i in range(len(of.weight))
    ]
