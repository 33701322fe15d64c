"""What a threshold is calibrated on: the model's hits, or those of own labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.image_name import NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision, threshold_for_hit_loss
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

    def __post_init__(self) -> None:
        for name in ("threshold", "max_hit_loss", "keep_misses"):
            value = getattr(self, name)
            # PHIL takes nan for a number within any limits.
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"decision.{name}={value} is not from 0 to 1")


@dataclass(frozen=True)
class OwnLabels:
    """The parameters of calibration: labels, and the scores of the same images."""

    annotation: str | None
    scores: str | None


@dataclass(frozen=True, eq=False)
class LabelledHits:
    """Hits by an expert's labels.

    Attributes:
        scores: float64 (n,), P(Hit) + P(Maybe) of images labelled Hit or Maybe.
        source: Which images those are.
        left_out: Labels that were not used, a line for each reason.
    """

    scores: NDArray[np.float64]
    source: str
    left_out: list[str]


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
    hits, source = model.calibration.hit_scores, model.calibration.source
    if has_labels:
        labelled = read_labelled_hits(
            str(calibration.annotation), str(calibration.scores), summary, chosen
        )
        for line in labelled.left_out:
            logger.warning("%s", line)
        hits, source = labelled.scores, labelled.source
    if rule.max_hit_loss is None:
        return plain
    if chosen.eye is not None and not has_labels:
        raise ValueError(
            "decision.max_hit_loss with an eye needs labels of your own "
            "(calibration.annotation), since the model's calibration hits are by its "
            f"own classes, of spots over {MODEL_SIGMA} standard deviations; or set "
            "decision.threshold instead"
        )
    return replace(
        plain,
        threshold=threshold_for_hit_loss(hits, rule.max_hit_loss),
        max_hit_loss=rule.max_hit_loss,
        calibrated_on=source,
        calibration_hits=len(hits),
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
) -> LabelledHits:
    """The labelled hits of an annotation file, with their scores of an earlier run.

    Args:
        annotation: Lines such as ``r0027_2000.h5 [1] HIT``.
        scores: cnn_screen.json of the same model.
        model: That of this run.
        chosen: The eye of this run, by which the scores are computed again. Images that
            it was fitted to are left out, since it knows them.

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
        if label is not Label.MISS
    ]
    if not hits:
        raise ValueError(
            f"no image that is labelled Hit or Maybe in {annotation} has a score; "
            f"{'; '.join(remarks) or 'label some of those in ' + str(scores)}"
        )
    return LabelledHits(
        np.array(hits),
        f"{len(hits)} images labelled Hit or Maybe in {annotation}",
        remarks,
    )
