"""Fit an expert's eye to some twenty labels: maximum a posteriori, without training.

The likelihood of a label is the eye's probability of it, but that SLIPS of the labels
may be anything. The prior of ln(visible_sigma) is the upper half of a normal
distribution that begins at the model's own threshold, so that few labels do not lead
far from it; that of ln(spread) is normal about SPREAD. Both parameters are searched on
a grid, which gives an interval too.

The constants were chosen by hand, and looked at on simulated shots (studies/eye.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.eye import (
    MODEL_SIGMA,
    SPREAD,
    Eye,
    class_probabilities,
    pad,
)

# The values among which the two parameters are searched: steps of 9% up to 61.
SIGMAS = MODEL_SIGMA * 1.09 ** np.arange(29)
SPREADS = (0.05, 0.1, 0.2, 0.4)
# Standard deviations of the priors of ln(visible_sigma) and ln(spread).
_SIGMA_PRIOR, _SPREAD_PRIOR = 0.8, 0.7
# Fraction of labels that are slips of the expert, equally any of the classes.
SLIPS = 0.03
# An eye has to explain the labels better than the model's own classes do, by this much
# in ln of the posterior: strong evidence in the scale of Kass & Raftery (1995), J. Am.
# Stat. Assoc. 90, 773, is 3 to 5. With 2 an expert who sees what the model sees got an
# eye that was clearly worse from 6% of draws of twenty labels, with 4 from 2%.
LEAST_GAIN = 4.0


@dataclass(frozen=True)
class EyeFit:
    """The eye that explains labels best.

    Attributes:
        eye: The eye.
        interval: 95% credible interval of its visible_sigma.
        gain: ln of the posterior, without constants, less ln of the likelihood of the
            labels by the model's own probabilities.
    """

    eye: Eye
    interval: tuple[float, float]
    gain: float

    @property
    def is_better(self) -> bool:
        """Whether it explains the labels clearly better than the model by itself."""
        return self.gain > LEAST_GAIN


def fit_eye(
    frames: Sequence[CandidateScores],
    own: NDArray[np.float64],
    labels: Sequence[Label],
    source: str,
) -> EyeFit:
    """Fit an eye to the labels of n frames.

    Args:
        frames: Candidates of the frames.
        own: float64 (n, 3), the model's own probabilities.
        labels: By the expert.
        source: What the labels are.
    """
    padded, chosen = pad(frames), np.array(labels, dtype=np.int64)
    posterior = np.array(
        [
            [
                _log_likelihood(class_probabilities(padded, sigma, spread), chosen)
                + _log_prior(sigma, spread)
                for spread in SPREADS
            ]
            for sigma in SIGMAS
        ]
    )  # (sigmas, spreads)
    i, j = np.unravel_index(posterior.argmax(), posterior.shape)
    weights = np.exp(posterior - posterior.max()).sum(axis=1)  # (sigmas,)
    cumulative = np.cumsum(weights) / weights.sum()
    low, high = np.searchsorted(cumulative, [0.025, 0.975])
    return EyeFit(
        Eye(round(float(SIGMAS[i]), 2), SPREADS[j], source),
        (float(SIGMAS[low]), float(SIGMAS[high])),
        float(posterior[i, j] - _log_likelihood(own, chosen)),
    )


def _log_likelihood(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """ln of the likelihood of labels (n,) by probabilities (n, 3)."""
    p = probabilities[np.arange(len(labels)), labels]
    return float(np.log((1 - SLIPS) * p + SLIPS / len(Label)).sum())


def _log_prior(sigma: float, spread: float) -> float:
    """ln of the prior, without constants."""
    from_model = np.log(sigma / MODEL_SIGMA) / _SIGMA_PRIOR
    from_usual = np.log(spread / SPREAD) / _SPREAD_PRIOR
    return float(-0.5 * (from_model**2 + from_usual**2))
