"""Fit an expert's eye to some twenty labels: Bayesian, without training.

The likelihood of a label is the eye's probability of it, but that SLIPS of the labels
may be anything. The prior of ln(visible_sigma) is the upper half of a normal
distribution that begins at the model's own threshold, so that few labels do not lead
far from it; that of ln(spread) is normal about SPREAD. The posterior of both is found
on a grid. The eye has its mean, and a spread that has in it what the labels leave open.

The labels may as well follow the model's own classes. By the Bayes factor (Kass &
Raftery, 1995, J. Am. Stat. Assoc. 90, 773) of these against all eyes, equally likely
before, the model has a share in the probabilities, so that few labels change little.

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
    within,
)

# The values among which the two parameters are searched: steps of 9% up to 61.
SIGMAS = MODEL_SIGMA * 1.09 ** np.arange(29)
SPREADS = np.array([0.05, 0.1, 0.2, 0.4])
# Standard deviations of the priors of ln(visible_sigma) and ln(spread).
_SIGMA_PRIOR, _SPREAD_PRIOR = 0.8, 0.7
# Fraction of labels that are slips of the expert, equally any of the classes.
SLIPS = 0.03


@dataclass(frozen=True)
class EyeFit:
    """The eye that labels speak for.

    Attributes:
        eye: The eye.
        interval: 95% credible interval of its visible_sigma.
    """

    eye: Eye
    interval: tuple[float, float]


def fit_eye(
    frames: Sequence[CandidateScores],
    own: NDArray[np.float64],
    labels: Sequence[Label],
    source: str,
    region_of_interest: Sequence[int] | None = None,
) -> EyeFit:
    """Fit an eye to the labels of n frames.

    Args:
        frames: Candidates of the frames.
        own: float64 (n, 3), the model's own probabilities.
        labels: By the expert.
        source: What the labels are.
        region_of_interest: Where the expert looked, as of an Eye.

    Raises:
        ValueError: There is a region, and candidates have no places.
    """
    seen = [within(frame, region_of_interest) for frame in frames]
    padded, chosen = pad(seen), np.array(labels, dtype=np.int64)
    likelihood = np.array(
        [
            [
                _log_likelihood(class_probabilities(padded, sigma, spread), chosen)
                for spread in SPREADS
            ]
            for sigma in SIGMAS
        ]
    )  # (sigmas, spreads)
    prior = _log_prior()
    evidence = np.logaddexp.reduce((likelihood + prior).ravel())
    posterior = np.exp(likelihood + prior - evidence)  # (sigmas, spreads)
    by_sigma = posterior.sum(axis=1)  # (sigmas,)
    height = np.log(SIGMAS)
    mean = by_sigma @ height
    variance = by_sigma @ (height - mean) ** 2 + posterior.sum(axis=0) @ SPREADS**2
    by_own = _log_likelihood(own, chosen)
    own_share = np.exp(by_own - np.logaddexp(by_own, evidence))
    low, high = np.searchsorted(np.cumsum(by_sigma), [0.025, 0.975])
    eye = Eye(
        round(float(np.exp(mean)), 2),
        round(float(np.sqrt(variance)), 3),
        source,
        round(float(own_share), 4),
        region_of_interest,
    )
    return EyeFit(eye, (float(SIGMAS[low]), float(SIGMAS[high])))


def _log_likelihood(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """ln of the likelihood of labels (n,) by probabilities (n, 3)."""
    p = probabilities[np.arange(len(labels)), labels]
    return float(np.log((1 - SLIPS) * p + SLIPS / len(Label)).sum())


def _log_prior() -> NDArray[np.float64]:
    """ln of the prior of SIGMAS and SPREADS, (sigmas, spreads)."""
    from_model = np.log(SIGMAS / MODEL_SIGMA) / _SIGMA_PRIOR
    from_usual = np.log(SPREADS / SPREAD) / _SPREAD_PRIOR
    prior = -0.5 * (from_model[:, None] ** 2 + from_usual**2)
    return prior - np.logaddexp.reduce(prior.ravel())
