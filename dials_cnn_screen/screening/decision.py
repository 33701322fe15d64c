"""Class scores to probabilities, class, and whether a still is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dials_cnn_screen.labels.label import Label


@dataclass(frozen=True)
class Decision:
    """How stills are kept.

    threshold: a still is kept if P(Hit) + P(Maybe) reaches it; 0.5 is the paper's
    rule (section 2.1). keep_misses: fraction of the others kept at random for audit,
    drawn with seed. Where the threshold is from threshold_for_hit_loss: max_hit_loss;
    rests_on, what images the calibration hits are of; calibration_hits, their number.
    """

    threshold: float = 0.5
    keep_misses: float = 0.0
    seed: int = 0
    max_hit_loss: float | None = None
    rests_on: str | None = None
    calibration_hits: int | None = None


def probabilities(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of scores z / temperature (equation 3); float64, shape (..., 3)."""
    z = np.asarray(scores, dtype=np.float64) / temperature
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def keep_score(p: np.ndarray) -> np.ndarray:
    """P(Hit) + P(Maybe) of probabilities (..., 3), never above 1 by rounding."""
    return np.minimum(p[..., Label.HIT] + p[..., Label.MAYBE], 1.0)


def classify(p: np.ndarray) -> Label:
    """Class of one still, p (3,): Miss unless P(Hit) + P(Maybe) is 0.5 or more."""
    if keep_score(p) < 0.5:
        return Label.MISS
    return Label.HIT if p[Label.HIT] >= p[Label.MAYBE] else Label.MAYBE


def keep(
    scores: np.ndarray, decision: Decision, unlike: np.ndarray | bool = False
) -> np.ndarray:
    """Which stills are kept, bool (n,), from P(Hit) + P(Maybe), float (n,).

    NaN stands for a still that could not be judged, which is always kept. So is one
    that is unlike the model's training, bool (n,): what its score means is not known.
    """
    audit = np.random.default_rng(decision.seed).random(len(scores))
    return ~(scores < decision.threshold) | unlike | (audit < decision.keep_misses)


def threshold_for_hit_loss(hit_scores: np.ndarray, max_hit_loss: float) -> float:
    """Threshold at which the expected fraction of lost hits is at most max_hit_loss.

    hit_scores: P(Hit) + P(Maybe) of n held-out images that are Hit or Maybe. The
    threshold is the k-th smallest, k = floor(max_hit_loss (n + 1)): a new hit drawn
    like those n has rank k or lower among all n + 1 with chance k / (n + 1) or less
    (split conformal prediction: Papadopoulos et al. (2002), Proc. ECML, 345). Equal
    scores only make a loss rarer, since it takes a score lower than the k-th.

    Raises ValueError where max_hit_loss is not over 0, or n too small to promise
    anything but keeping all.
    """
    if max_hit_loss <= 0:
        raise ValueError(
            f"max_hit_loss={max_hit_loss:g} is not over 0; set threshold=0 to keep all"
        )
    n = len(hit_scores)
    rank = min(int(np.floor(max_hit_loss * (n + 1))), n)
    if rank < 1:
        raise ValueError(
            f"max_hit_loss={max_hit_loss:g} needs {int(np.ceil(1 / max_hit_loss)) - 1} "
            f"calibration hits, and there are {n}; label more images of your own "
            "(calibration.annotation), or set threshold instead"
        )
    return float(np.sort(hit_scores)[rank - 1])


def explain(decision: Decision) -> str:
    """The decision in words: what is kept, what that promises, and what it does not."""
    text = f"Kept if P(Hit) + P(Maybe) is {decision.threshold:.4g} or more"
    if decision.max_hit_loss is not None:
        text += (
            f", the threshold at which at most {100 * decision.max_hit_loss:.3g}% of "
            "the hits are expected to be lost (split conformal prediction), for images "
            f"drawn like the {decision.calibration_hits} hits that this rests on: "
            f"{decision.rests_on}. It promises nothing for another experiment, nor for "
            "real images if those were simulated: measure the loss there by "
            "decision.keep_misses, or rest the threshold on labels of your own "
            "(calibration.annotation)"
        )
    if decision.keep_misses > 0:
        text += (
            f". Of the others {100 * decision.keep_misses:.3g}% are kept at random, to "
            "be looked through for lost hits"
        )
    return text + "."
