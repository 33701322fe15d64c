"""What a threshold is calibrated on: the model's hits, or those of own labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.image_name import NameIndex
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.screening.decision import (
    Decision,
    LossOf,
    threshold_for_hit_loss,
    threshold_for_labels,
)
from dials_cnn_screen.screening.eye import NO_EYE, ChosenEye, EyeRule, choose_eye
from dials_cnn_screen.screening.labelled import read_labelled_images
from dials_cnn_screen.screening.results import ModelSummary, decide_again
from dials_cnn_screen.spots.eye import MODEL_SIGMA

logger = logging.getLogger("dials.cnn_screen.calibration")


@dataclass(frozen=True)
class DecisionRule:
    """The parameters of decision; ValueError for a number that is not from 0 to 1."""

    threshold: float
    max_hit_loss: float | None
    keep_misses: float
    random_seed: int
    loss_of: str = LossOf.HITS_AND_MAYBES.value

    def __post_init__(self) -> None:
        for name in ("threshold", "max_hit_loss", "keep_misses"):
            value = getattr(self, name)
            # PHIL takes nan for a number within any limits.
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"decision.{name}={value} is not from 0 to 1")
        if self.loss_of != LossOf.HITS_AND_MAYBES and self.max_hit_loss is None:
            raise ValueError(
                f"decision.loss_of={self.loss_of} is for decision.max_hit_loss, which "
                "is not set; set it, such as decision.max_hit_loss=0.01"
            )


@dataclass(frozen=True)
class OwnLabels:
    """The parameters of calibration: labels, and the scores of the same images."""

    annotation: str | None
    scores: str | None


@dataclass(frozen=True, eq=False)
class CalibrationHits:
    """Hits that a threshold is calibrated on.

    Attributes:
        scores: float64 (n,), their P(Hit) + P(Maybe).
        source: Which images those are.
        weights: float64 (n,), how probably each is a hit; None: all are.
        highest: The threshold is not to be over this.
        left_out: Labels that were not used, a line for each reason.
    """

    scores: NDArray[np.float64]
    source: str
    weights: NDArray[np.float64] | None = None
    highest: float = 1.0
    left_out: list[str] = field(default_factory=list)

    def threshold(self, max_hit_loss: float) -> float:
        """The threshold for a bound on their loss; raises threshold_for_hit_loss's."""
        wanted = threshold_for_hit_loss(self.scores, max_hit_loss, self.weights)
        if wanted > self.highest:
            logger.warning(
                "At a threshold of %.4g hits among the labels in eye.annotation would "
                "be lost, more than may be slips; it is lowered to %.4g. Labels that "
                "are not by the number of spots that stand out need a calibration on "
                "labels (calibration.annotation)",
                wanted,
                self.highest,
            )
        return min(wanted, self.highest)

    @property
    def number(self) -> int:
        """How many they are; probabilities count in part."""
        return round(len(self.scores) if self.weights is None else self.weights.sum())


def choose_decision(
    rule: DecisionRule, calibration: OwnLabels, eye_rule: EyeRule, model: Model
) -> Decision:
    """How images are kept; the threshold may come from the model's or the user's hits.

    Labels that are not used are logged.

    Raises:
        ValueError: A bound on lost hits that can't be had, or labels that can't be
            used.
    """
    has_labels = _has_labels(rule, calibration)
    summary = ModelSummary.of(model)
    chosen = choose_eye(eye_rule, summary)
    plain = Decision(rule.threshold, rule.keep_misses, rule.random_seed, eye=chosen.eye)
    if rule.max_hit_loss is None:
        return plain
    loss_of = LossOf(rule.loss_of)
    if has_labels:
        hits = read_labelled_hits(
            str(calibration.annotation),
            str(calibration.scores),
            summary,
            chosen,
            loss_of,
        )
        for line in hits.left_out:
            logger.warning("%s", line)
    else:
        hits = find_hits(chosen, model.calibration, loss_of)
    return replace(
        plain,
        threshold=hits.threshold(rule.max_hit_loss),
        max_hit_loss=rule.max_hit_loss,
        calibrated_on=hits.source,
        calibration_hits=hits.number,
        loss_of=loss_of.value,
    )


def find_hits(
    chosen: ChosenEye, calibration: Calibration, loss_of: LossOf
) -> CalibrationHits:
    """A model's calibration hits, by an eye or its own classes; raises as they do."""
    if chosen.eye is None:
        return hits_of_model(calibration, loss_of)
    return hits_of_eye(chosen, calibration, loss_of)


def hits_of_model(calibration: Calibration, loss_of: LossOf) -> CalibrationHits:
    """A model's calibration hits, by its own classes.

    Raises:
        ValueError: It does not say which of them are Hits.
    """
    scores = calibration.hit_scores
    if loss_of is LossOf.HITS:
        if calibration.sure_scores is None:
            raise ValueError(
                "the model does not say which of its calibration hits are Hits and "
                "which Maybes, as it was made by an earlier version; leave "
                "decision.loss_of out, or calibrate on your own labels "
                "(calibration.annotation)"
            )
        scores = calibration.sure_scores
    return CalibrationHits(scores, calibration.source)


def hits_of_eye(
    chosen: ChosenEye, calibration: Calibration, loss_of: LossOf
) -> CalibrationHits:
    """What an eye calls hits among a model's simulated ones.

    Of the labels that it was fitted to no more are to be lost than may be slips.

    Raises:
        ValueError: The model has none.
    """
    eye, simulated = chosen.eye, calibration.simulated
    if eye is None or simulated is None:
        raise ValueError(
            "decision.max_hit_loss with an eye needs labels of your own "
            "(calibration.annotation), since the model's calibration hits are by its "
            f"own classes, of spots over {MODEL_SIGMA} standard deviations; or set "
            "decision.threshold instead"
        )
    labelled = [p for label, p in chosen.labelled if loss_of.counts(label)]
    return CalibrationHits(
        simulated.scores(eye),
        f"hits to this eye among {calibration.source}",
        simulated.weights(eye, loss_of.least),
        threshold_for_labels(np.array(labelled)),
    )


def _has_labels(rule: DecisionRule, calibration: OwnLabels) -> bool:
    """Whether the user calibrates on labels; ValueError for a part of that."""
    given = [calibration.annotation, calibration.scores]
    if given == [None, None]:
        return False
    if None in given:
        raise ValueError(
            "calibration.annotation and calibration.scores go together: give both, the "
            "labels and the cnn_screen.json that has these images"
        )
    if rule.max_hit_loss is None:
        raise ValueError(
            "calibration.annotation is for decision.max_hit_loss, which is not set; "
            "set it, such as decision.max_hit_loss=0.01, or leave calibration out"
        )
    return True


def read_labelled_hits(
    annotation: str | Path,
    scores: str | Path,
    model: ModelSummary,
    chosen: ChosenEye = NO_EYE,
    loss_of: LossOf = LossOf.HITS_AND_MAYBES,
) -> CalibrationHits:
    """The labelled hits of an annotation file, with their scores of an earlier run.

    Args:
        annotation: Lines such as ``r0027_2000.h5 [1] HIT``.
        scores: cnn_screen.json of the same model.
        model: That of this run.
        chosen: The eye of this run, by which the scores are computed again. Images that
            it was fitted to are left out, since it knows them.
        loss_of: Which labels count.

    Raises:
        ValueError: The file is not one, is of another model, or has none of the
            labelled hits; or a label could be of several of its images.
    """
    labelled = read_labelled_images(annotation, scores, model)
    known = NameIndex(chosen.fitted_to)
    images = [x for x in labelled.images if known.find(x[1].name) is None]
    remarks = list(labelled.left_out)
    if n_known := len(labelled.images) - len(images):
        remarks.append(
            f"{n_known} of the labels in {annotation} are left out: eye.annotation has "
            "these images too; label others for the calibration"
        )
    decision = Decision(eye=chosen.eye)
    hits = [
        decide_again(image, decision).p_keep
        for label, image in images
        if loss_of.counts(label)
    ]
    named = "Hit" if loss_of is LossOf.HITS else "Hit or Maybe"
    if not hits:
        raise ValueError(
            f"no image that is labelled {named} in {annotation} has a score; "
            f"{'; '.join(remarks) or 'label some of those in ' + str(scores)}"
        )
    return CalibrationHits(
        np.array(hits),
        f"{len(hits)} image{'s' * (len(hits) != 1)} labelled {named} in {annotation}",
        left_out=remarks,
    )
