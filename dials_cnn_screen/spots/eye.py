"""An expert's eye: classes by how many of a frame's candidates the expert would see.

The default model counts spots over 5.5 standard deviations, as the simulation that it
was trained on. Experts see what stands out on their screens, of some 12 standard
deviations, say. The eye turns the model's candidates into classes for any such
threshold:

1. A candidate of significance s, which is a spot with probability p, is seen with
   v = p min(1, F((ln s - ln t) / S) / F((ln s - ln m) / S)), with F the logistic
   function, t the threshold of the eye, m that of the model and S = SOFTNESS. p is the
   probability of a spot over m, so that v = p at t = m.
2. The number of spots seen is the sum of independent draws (Poisson binomial); its
   probabilities up to 9 are found candidate by candidate.
3. t differs from image to image, as attention and contrast do: ln t is normal about the
   logarithm of visible_sigma, with the standard deviation spread. The probabilities are
   means over it (Gauss-Hermite quadrature).
4. Hit is 10 spots or more, Maybe 4 to 9, Miss 3 or fewer (Ke et al., section 3.3.1).

Some labels follow no number of spots, as where an expert sees in one image what they
miss in another. Of the share lapse_rate of the images the classes are therefore as
frequent as among all labels, whatever is on them (as in fits of psychometric functions:
Wichmann & Hill, 2001, Percept. Psychophys. 63, 1293).

An expert who looks at a part of the frame, as that of Ke et al. did (945 x 520 pixels,
section 3.3.1), sees no spots outside of it.

The constants were chosen by hand; studies/eye.py shows what comes of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label

# What the model calls a spot stands out by this many standard deviations or more, as in
# its training (training_set.py).
MODEL_SIGMA = 5.5
# How far, in the logarithm, a candidate's significance is from that of its spot.
SOFTNESS = 0.1
# Of the threshold from image to image, in its logarithm, where it is not fitted.
SPREAD = 0.2
# Draws that are less likely than this leave the count as it is: by hand.
_NEGLIGIBLE = 1e-6
# Nodes and weights of the mean over a normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Eye:
    """What an expert sees.

    Attributes:
        visible_sigma: A spot that stands out by so many standard deviations is seen.
        spread: Standard deviation of ln(visible_sigma): from image to image, and for
            want of labels.
        source: Where the numbers are from.
        own_share: Probability that the expert's classes are the model's own; these have
            this weight beside those of the eye.
        region_of_interest: x0, x1, y0, y1 as in dials.find_spots: spots are seen at
            fast from x0 to x1 - 1 and slow from y0 to y1 - 1, pixels of the frame.
            None: everywhere.
        lapse_rate: Share of the images whose classes follow no number of spots.
        lapse_shares: Of Hit, Maybe and Miss among those.

    Raises:
        ValueError: visible_sigma is under the model's, spread not over 0, a share not
            from 0 to 1, or nothing is in the region of interest.
    """

    visible_sigma: float
    spread: float = SPREAD
    source: str = "as given"
    own_share: float = 0.0
    region_of_interest: Sequence[int] | None = None
    lapse_rate: float = 0.0
    lapse_shares: Sequence[float] = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        if not MODEL_SIGMA <= self.visible_sigma < math.inf:
            raise ValueError(
                f"visible_sigma={self.visible_sigma:g} is not {MODEL_SIGMA} or more: "
                "the model does not look for weaker spots"
            )
        if not 0 < self.spread < math.inf:
            raise ValueError(f"spread={self.spread:g} is not over 0")
        for name in ("own_share", "lapse_rate"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={share:g} is not from 0 to 1")
        shares = tuple(self.lapse_shares)
        if len(shares) != len(Label) or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"lapse_shares={shares} are not shares of three classes")
        # Lists, as JSON and PHIL have them, would not be equal to tuples.
        object.__setattr__(self, "lapse_shares", shares)
        check_region(self.region_of_interest)
        if self.region_of_interest is not None:
            region = tuple(self.region_of_interest)
            object.__setattr__(self, "region_of_interest", region)

    @property
    def own_percent(self) -> int:
        """own_share as people read it."""
        return round(100 * self.own_share)

    @property
    def lapse_percent(self) -> int:
        """lapse_rate as people read it."""
        return round(100 * self.lapse_rate)

    def probabilities(
        self, frames: Sequence[CandidateScores], own: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """P(Hit), P(Maybe), P(Miss) of n frames, float64 (n, 3); own: the model's.

        Raises ValueError where the eye has a region, and candidates have no places.
        """
        padded = pad([within(frame, self.region_of_interest) for frame in frames])
        seen = class_probabilities(padded, self.visible_sigma, self.spread)
        p = (1 - self.own_share) * seen + self.own_share * own
        return (1 - self.lapse_rate) * p + self.lapse_rate * np.array(self.lapse_shares)

    def check_frame(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where a frame (slow, fast) has nothing where the eye looks.

        Its class would be Miss whatever is on it.
        """
        if self.region_of_interest is None:
            return
        x0, _, y0, _ = self.region_of_interest
        slow, fast = shape
        if x0 >= fast or y0 >= slow:
            raise ValueError(
                f"eye.region_of_interest={','.join(map(str, self.region_of_interest))} "
                f"is outside of the frame, which has {slow} x {fast} pixels (slow x "
                "fast); correct it"
            )

    def sees(self, significance: NDArray[np.float64]) -> NDArray[np.float64]:
        """How probably spots of a significance (n,) are seen, float64 (n,).

        Those under MODEL_SIGMA are not: the model does not look for them.
        """
        threshold = NormalDist(math.log(self.visible_sigma), self.spread)
        known = significance >= MODEL_SIGMA
        seen = np.zeros(len(significance))
        seen[known] = [threshold.cdf(x) for x in np.log(significance[known])]
        return (1 - self.own_share) * seen + self.own_share * known


def within(frame: CandidateScores, region: Sequence[int] | None) -> CandidateScores:
    """The candidates in a region of interest; None: all of them.

    Raises:
        ValueError: Their places are not known.
    """
    if region is None:
        return frame
    if frame.places is None:
        raise ValueError(
            "the scores do not say where the candidates are, which an eye with a "
            "region_of_interest needs; screen the images again with this version"
        )
    slow, fast = frame.places.T
    x0, x1, y0, y1 = region
    inside = (x0 <= fast) & (fast < x1) & (y0 <= slow) & (slow < y1)
    return CandidateScores(
        frame.significance[inside], frame.p_spot[inside], frame.places[inside]
    )


def pad(frames: Sequence[CandidateScores]) -> NDArray[np.float64]:
    """The candidates of n frames side by side.

    Returns:
        float64 (2, n, k), ln of significance and p; p = 0 in empty places.
    """
    most = max((len(frame.p_spot) for frame in frames), default=0)
    padded = np.zeros((2, len(frames), most))
    for i, frame in enumerate(frames):
        n = len(frame.p_spot)
        padded[0, i, :n] = np.log(np.maximum(frame.significance, 1.0))
        padded[1, i, :n] = frame.p_spot
    return padded


def class_probabilities(
    padded: NDArray[np.float64], visible_sigma: float, spread: float
) -> NDArray[np.float64]:
    """P(Hit), P(Maybe), P(Miss) of n frames.

    Args:
        padded: float64 (2, n, k), as pad gives it.
        visible_sigma, spread: As of an Eye.

    Returns:
        float64 (n, 3).
    """
    height, p_spot = padded
    thresholds = math.log(visible_sigma) + spread * _NODES  # (7,)
    seen = _logistic(height[..., None] - thresholds)  # (n, k, 7)
    by_model = _logistic(height - math.log(MODEL_SIGMA))  # (n, k)
    share = np.minimum(seen / by_model[..., None], 1.0)
    counts = count_probabilities(p_spot[..., None] * share, HIT_SPOTS)  # (10, n, 7)
    miss = counts[:MAYBE_SPOTS].sum(axis=0) @ _WEIGHTS  # (n,)
    maybe = counts[MAYBE_SPOTS:].sum(axis=0) @ _WEIGHTS  # (n,)
    return np.stack([np.maximum(1 - maybe - miss, 0), maybe, miss], axis=1)


def count_probabilities(p: NDArray[np.float64], n_counts: int) -> NDArray[np.float64]:
    """Probabilities of 0, 1, ... n_counts - 1 successes of k independent draws.

    Args:
        p: float64 (n, k, m), of each draw.
        n_counts: How many of the probabilities.

    Returns:
        float64 (n_counts, n, m).
    """
    counts = np.zeros((n_counts, p.shape[0], p.shape[2]))
    counts[0] = 1
    for i in np.flatnonzero(p.max(axis=(0, 2)) > _NEGLIGIBLE):
        moved = counts * p[:, i]  # one more success
        counts -= moved
        counts[1:] += moved[:-1]
    return counts


def check_region(region: Sequence[int] | None) -> None:
    """Raise ValueError for what is not x0, x1, y0, y1 of a region; None is none."""
    if region is None:
        return
    if len(region) == 4:
        x0, x1, y0, y1 = region
        if 0 <= x0 < x1 and 0 <= y0 < y1:
            return
    raise ValueError(
        f"region_of_interest={','.join(map(str, region))} is not x0,x1,y0,y1, pixels, "
        "with 0 <= x0 < x1 and 0 <= y0 < y1"
    )


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x / SOFTNESS))."""
    return 1 / (1 + np.exp(np.minimum(-x / SOFTNESS, 700)))  # no overflow
