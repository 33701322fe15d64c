"""What a threshold is calibrated on: the model's hits, or those of own labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.image_name import NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import find_annotated
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision, threshold_for_hit_loss
from dials_cnn_screen.screening.results import (
    ImageResult,
    ScreeningResults,
    read_results,
)

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
    rule: DecisionRule, calibration: OwnLabels, model: Model
) -> Decision:
    """How images are kept; the threshold may come from the model's or the user's hits.

    Labels that are not used are logged.

    Raises:
        ValueError: A bound on lost hits that can't be had, or labels that can't be
            used.
    """
    hits, source = model.calibration.hit_scores, model.calibration.source
    if _has_labels(rule, calibration):
        labelled = read_labelled_hits(
            str(calibration.annotation), str(calibration.scores), model
        )
        for line in labelled.left_out:
            logger.warning("%s", line)
        hits, source = labelled.scores, labelled.source
    if rule.max_hit_loss is None:
        return Decision(rule.threshold, rule.keep_misses, rule.random_seed)
    return Decision(
        threshold_for_hit_loss(hits, rule.max_hit_loss),
        rule.keep_misses,
        rule.random_seed,
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
    annotation: str | Path, scores: str | Path, model: Model
) -> LabelledHits:
    """The labelled hits of an annotation file, with their scores of an earlier run.

    Args:
        annotation: Lines such as ``r0027_2000.h5 [1] HIT``.
        scores: cnn_screen.json of the same model.
        model: That of this run.

    Raises:
        ValueError: The file is not one, is of another model, or has none of the
            labelled hits; or a label could be of several of its images.
    """
    results = read_results(scores)
    _check_model(results, scores, model)
    index = NameIndex([image.name for image in results.images])
    annotations = read_annotations(annotation)
    used: list[tuple[Annotation, ImageResult]] = []
    left_out: dict[str, list[Annotation]] = {}
    for a in annotations:
        i = find_annotated(a, index)
        image = None if i is None else results.images[i]
        reason = _why_left_out(a, image, scores)
        if reason is not None:
            left_out.setdefault(reason, []).append(a)
        elif image is not None:
            used.append((a, image))
    hits = [image.p_keep for a, image in used if a.label is not Label.MISS]
    remarks = [
        f"{len(those)} of the {len(annotations)} labels in {annotation} are left out: "
        f"{reason} ({those[0].name}{' and others' if len(those) > 1 else ''})"
        for reason, those in left_out.items()
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


def _check_model(results: ScreeningResults, scores: str | Path, model: Model) -> None:
    if results.model.sha256 != model.sha256:
        raise ValueError(
            f"the scores in '{scores}' are of model {results.model.name} (sha256 "
            f"{results.model.sha256}), and this run's model is {model.name} (sha256 "
            f"{model.sha256}); screen the labelled images again with this model"
        )


def _why_left_out(
    a: Annotation, image: ImageResult | None, scores: str | Path
) -> str | None:
    if a.label is None:
        return "labelled None"
    if image is None:
        return f"not among the images of {scores}"
    # Such images are not lost; the bound is for the others.
    if image.prediction is None or image.out_of_distribution:
        return (
            f"could not be classified, or out of distribution, in {scores}, and kept "
            "for that"
        )
    return None
