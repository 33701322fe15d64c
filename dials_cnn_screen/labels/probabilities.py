"""From logits to probabilities, P(Hit) + P(Maybe) and the class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.labels.label import Label

# The paper's rule: P(Hit) + P(Maybe) of an image that is no Miss (section 2.1).
PAPER_THRESHOLD = 0.5


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of logits z / temperature (equation 3); float64 (..., 3)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def p_keep(probabilities: ArrayLike) -> NDArray[np.float64]:
    """P(Hit) + P(Maybe) of probabilities (..., 3), never above 1 by rounding."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.minimum(p[..., Label.HIT] + p[..., Label.MAYBE], 1.0)


def log_odds(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """ln((P(Hit) + P(Maybe)) / P(Miss)) of logits (..., 3)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    return np.logaddexp(z[..., Label.HIT], z[..., Label.MAYBE]) - z[..., Label.MISS]


def classify(probabilities: ArrayLike) -> NDArray[np.int64]:
    """Classes of probabilities (..., 3), values of Label.

    Miss unless P(Hit) + P(Maybe) is 0.5 or more (section 2.1), then the likelier of Hit
    and Maybe.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    hit_or_maybe = np.where(
        p[..., Label.HIT] >= p[..., Label.MAYBE], Label.HIT, Label.MAYBE
    )
    return np.where(p_keep(p) < PAPER_THRESHOLD, Label.MISS, hit_or_maybe)
