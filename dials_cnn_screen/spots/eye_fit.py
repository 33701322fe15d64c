"""Fit an expert's eye to some twenty labels: Bayesian, without training.

The likelihood of a label is the eye's probability of it, but that SLIPS of the labels
may be anything. The prior of ln(visible_sigma) is the upper half of a normal
distribution that begins at the model's own threshold, so that few labels do not lead
far from it; that of ln(spread) is normal about SPREAD. The posterior of both is found
on a grid. The eye has its mean, and a spread that has in it what the labels leave open.

The labels may as well follow the model's own classes. By the Bayes factor (Kass &
Raftery, 1995, J. Am. Stat. Assoc. 90, 773) of these against all eyes, equally likely
before, the model has a share in the probabilities, so that few labels change little.

Some of the labels, or most, may follow no number of spots (lapses, see eye.py); before
the labels are seen this has a small probability. Without it an eye that is fitted to
such labels would be sure of what it can't know.

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
# Lapse rates that are tried, and their probabilities before.
LAPSES = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
_LAPSE_PRIOR = np.array([0.95, *[0.05 / 6] * 6])


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
    # A third of an image of each class, so that none is impossible.
    counts = np.bincount(chosen, minlength=len(Label)) + 1 / len(Label)
    shares = counts / counts.sum()
    likelihood = np.array(
        [
            [
                _log_likelihoods(
                    class_probabilities(padded, sigma, spread), chosen, shares
                )
                for spread in SPREADS
            ]
            for sigma in SIGMAS
        ]
    )  # (sigmas, spreads, lapses)
    joint = likelihood + (_log_prior()[..., None] + np.log(_LAPSE_PRIOR))
    evidence = np.logaddexp.reduce(joint.ravel())
    posterior = np.exp(joint - evidence)
    by_sigma = posterior.sum(axis=(1, 2))  # (sigmas,)
    height = np.log(SIGMAS)
    mean = by_sigma @ height
    variance = by_sigma @ (height - mean) ** 2
    variance += posterior.sum(axis=(0, 2)) @ SPREADS**2
    by_own = _log_likelihoods(own, chosen, shares) + np.log(_LAPSE_PRIOR)
    own_evidence = np.logaddexp.reduce(by_own)
    own_share = np.exp(own_evidence - np.logaddexp(own_evidence, evidence))
    lapses = (1 - own_share) * posterior.sum(axis=(0, 1))
    lapses += own_share * np.exp(by_own - own_evidence)
    low, high = np.searchsorted(np.cumsum(by_sigma), [0.025, 0.975])
    eye = Eye(
        round(float(np.exp(mean)), 2),
        round(float(np.sqrt(variance)), 3),
        source,
        round(float(own_share), 4),
        region_of_interest,
        round(float(lapses @ LAPSES), 4),
        tuple(round(float(share), 4) for share in shares),
    )
    return EyeFit(eye, (float(SIGMAS[low]), float(SIGMAS[high])))


def _log_likelihoods(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """ln of the likelihood of labels (n,) by probabilities (n, 3), for all LAPSES.

    shares: (3,), of the classes among lapses.
    """
    p = probabilities[np.arange(len(labels)), labels]
    mixed = (1 - LAPSES) * p[:, None] + LAPSES * shares[labels, None]
    return np.log((1 - SLIPS) * mixed + SLIPS / len(Label)).sum(axis=0)


def _log_prior() -> NDArray[np.float64]:
    """ln of the prior of SIGMAS and SPREADS, (sigmas, spreads)."""
    from_model = np.log(SIGMAS / MODEL_SIGMA) / _SIGMA_PRIOR
    from_usual = np.log(SPREADS / SPREAD) / _SPREAD_PRIOR
    prior = -0.5 * (from_model[:, None] ** 2 + from_usual**2)
    return prior - np.logaddexp.reduce(prior.ravel())
