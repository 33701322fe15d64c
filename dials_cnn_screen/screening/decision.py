"""Which images are kept, and why."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.spots.eye import MODEL_SIGMA, Eye
from dials_cnn_screen.spots.eye_fit import SLIPS


class LossOf(str, Enum):
    """Whose loss a bound is on."""

    HITS_AND_MAYBES = "hits_and_maybes"
    HITS = "hits"

    @property
    def least(self) -> Label:
        """The class with the fewest spots that counts."""
        return Label.HIT if self is LossOf.HITS else Label.MAYBE

    @property
    def text(self) -> str:
        """As people read it."""
        return "Hits" if self is LossOf.HITS else "Hits and Maybes"

    def counts(self, label: Label) -> bool:
        """Whether a lost image of this class counts."""
        return label <= self.least


@dataclass(frozen=True)
class Decision:
    """How images are kept.

    Attributes:
        threshold: An image is kept if P(Hit) + P(Maybe) reaches it; 0.5 is the paper's
            rule (section 2.1).
        keep_misses: Fraction of the others kept at random, for an audit.
        seed: Of that draw.
        max_hit_loss: Where the threshold is from threshold_for_hit_loss.
        calibrated_on: Of what images the calibration hits are, then.
        calibration_hits: Their number.
        loss_of: Value of LossOf, what max_hit_loss is the loss of.
        eye: By which classes and probabilities are; None: by the model itself.
    """

    threshold: float = PAPER_THRESHOLD
    keep_misses: float = 0.0
    seed: int = 0
    max_hit_loss: float | None = None
    calibrated_on: str | None = None
    calibration_hits: int | None = None
    loss_of: str = LossOf.HITS_AND_MAYBES.value
    eye: Eye | None = None


class KeptBecause(str, Enum):
    """Why an image is kept, in the order in which it is asked."""

    ERROR = "error"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    P_KEEP = "p_keep"
    AUDIT = "audit"


def why_kept(
    name: ImageName, prediction: Prediction | None, decision: Decision
) -> KeptBecause | None:
    """Why the image of this name is kept; None where it is not.

    An image without a prediction could not be classified and is kept. So is one out of
    the distribution of the model's training: what the model says of it means little.
    Images for the audit are drawn by number, file and its folder, so that it does not
    matter on which process and in which order they are classified, nor on which disk
    they are.
    """
    if prediction is None:
        return KeptBecause.ERROR
    if prediction.out_of_distribution:
        return KeptBecause.OUT_OF_DISTRIBUTION
    if prediction.p_keep >= decision.threshold:
        return KeptBecause.P_KEEP
    if decision.keep_misses > 0:
        file = "/".join(PurePath(name.path).parts[-2:])
        seed = [decision.seed, zlib.crc32(f"{file} [{name.number}]".encode())]
        if np.random.default_rng(seed).random() < decision.keep_misses:
            return KeptBecause.AUDIT
    return None


def threshold_for_hit_loss(
    hit_scores: NDArray[np.float64],
    max_hit_loss: float,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Threshold at which the expected fraction of lost hits is at most max_hit_loss.

    With n hit scores it is the k-th smallest, k = floor(max_hit_loss (n + 1)): a new
    hit drawn like those n has rank k or lower among all n + 1 with probability
    k / (n + 1) or less (split conformal prediction: Papadopoulos et al. (2002), Proc.
    ECML, 345). Equal scores only make a loss rarer, since it takes a score lower than
    the k-th. Where each of them is a hit with some probability only, these are summed:
    n is the sum of all, and the k-th the last up to which it is max_hit_loss (n + 1).

    Args:
        hit_scores: (n,), P(Hit) + P(Maybe) of held-out images that are Hit or Maybe.
        max_hit_loss: From 0 to 1.
        weights: (n,), probability that each is a hit; None: 1.

    Raises:
        ValueError: max_hit_loss is not over 0, or n too small to promise anything but
            keeping all.
    """
    if max_hit_loss <= 0:
        raise ValueError(
            f"max_hit_loss={max_hit_loss:g} is not over 0; set threshold=0 to keep all"
        )
    order = np.argsort(hit_scores)
    lost = np.cumsum(np.ones(len(order)) if weights is None else weights[order])
    n = float(lost[-1]) if len(lost) else 0.0
    rank = np.searchsorted(lost, max_hit_loss * (n + 1), side="right")
    if max_hit_loss * (n + 1) < 1 or rank < 1:
        raise ValueError(
            f"max_hit_loss={max_hit_loss:g} needs {int(np.ceil(1 / max_hit_loss)) - 1} "
            f"calibration hits, and there are {n:.0f}; label more images of your own "
            "(calibration.annotation), or set threshold instead"
        )
    return float(hit_scores[order[rank - 1]])


def threshold_for_labels(hit_scores: NDArray[np.float64]) -> float:
    """The highest threshold that loses no more labelled hits than may be slips.

    hit_scores: (n,), P(Hit) + P(Maybe) of images that an expert labelled; 1 for none.
    """
    slips = int(SLIPS * (len(hit_scores) + 1))
    return float(np.sort(hit_scores)[slips]) if len(hit_scores) else 1.0


def format_decision(decision: Decision) -> str:
    """The decision as a sentence or two: what is kept, and what that promises."""
    text = f"Images are kept if P(Hit) + P(Maybe) is {decision.threshold:.4g} or more."
    if (eye := decision.eye) is not None:
        percent = eye.own_percent
        weight = f", which has a weight of {percent}%" if percent else ""
        text = (
            "Hit, Maybe and Miss are by the number of spots that stand out by "
            f"{eye.visible_sigma:.3g} standard deviations or more{_where(eye)} "
            f"({eye.source}); the model by itself counts those over {MODEL_SIGMA}"
            f"{weight}. {text}"
        )
        if eye.lapse_percent:
            text += (
                f" Some {eye.lapse_percent}% of the expert's labels follow no number "
                "of spots; of these images nothing is known."
            )
    if decision.max_hit_loss is not None:
        text += (
            f" At this threshold at most {100 * decision.max_hit_loss:.3g}% of the "
            f"{LossOf(decision.loss_of).text} are expected to be lost (split "
            "conformal prediction), for images drawn like the "
            f"{decision.calibration_hits} calibration hits: "
            f"{decision.calibrated_on}. This does not hold for another experiment, nor "
            "for real images if those were simulated: measure the loss with "
            "decision.keep_misses, or calibrate on your own labels "
            "(calibration.annotation)."
        )
    if decision.keep_misses > 0:
        text += (
            f" Of the others {100 * decision.keep_misses:.3g}% are kept at random, so "
            "that you can look for lost hits among them."
        )
    return text


def _where(eye: Eye) -> str:
    """Where an eye looks, with a space before; nothing for the whole frame."""
    if eye.region_of_interest is None:
        return ""
    x0, x1, y0, y1 = eye.region_of_interest
    return f" at fast {x0} to {x1 - 1}, slow {y0} to {y1 - 1}"


def decision_from_json(values: Any) -> Decision:
    """The decision of cnn_screen.json; ValueError or TypeError where it is none."""
    if not isinstance(values, dict):
        raise ValueError(f"its decision is {values!r}")
    eye = values.get("eye")
    return Decision(**{**values, "eye": None if eye is None else Eye(**eye)})
