"""What a decision rests on: the model's calibration, or hits labelled by an expert."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.labels.label import Annotation, Label, read_annotations
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.screening.decision import Decision, threshold_for_hit_loss
from dials_cnn_screen.screening.scores_file import read_scores

if TYPE_CHECKING:
    import libtbx.phil

logger = logging.getLogger("dials.cnn_screen.calibration")

# cnn_screen.json has P(Hit) and P(Maybe) to four digits each. A threshold is to hold
# for scores that are not rounded, so all are taken as low as they may have been.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class LabelledHits:
    """Hits by an expert's labels.

    scores: P(Hit) + P(Maybe) of images labelled Hit or Maybe, float64 (n,). source:
    which images those are. left_out: labels that were not used, a line for each reason.
    """

    scores: np.ndarray
    source: str
    left_out: list[str]


def choose_decision(params: libtbx.phil.scope_extract, model: Model) -> Decision:
    """How stills are kept; the threshold may rest on the model's or the user's hits.

    params: has the scopes of decision.phil. Labels that are not used are logged. Raises
    ValueError for a bound on lost hits that can't be had, or labels that can't be used.
    """
    rule = params.decision
    hits, rests_on = model.calibration.hit_scores, model.calibration.source
    if _has_labels(params):
        labelled = read_labelled_hits(
            params.calibration.annotation,
            params.calibration.scores,
            model.name,
            model.sha256,
        )
        for line in labelled.left_out:
            logger.warning("%s", line)
        hits, rests_on = labelled.scores, labelled.source
    if rule.max_hit_loss is None:
        return Decision(rule.threshold, rule.keep_misses, rule.random_seed)
    return Decision(
        threshold_for_hit_loss(hits, rule.max_hit_loss),
        rule.keep_misses,
        rule.random_seed,
        max_hit_loss=rule.max_hit_loss,
        rests_on=rests_on,
        calibration_hits=len(hits),
    )


def _has_labels(params: libtbx.phil.scope_extract) -> bool:
    """Whether the threshold is to rest on labels; ValueError for a part of that."""
    given = [params.calibration.annotation, params.calibration.scores]
    if given == [None, None]:
        return False
    if None in given:
        raise ValueError(
            "calibration.annotation and calibration.scores go together: give both, the "
            "labels and the cnn_screen.json that has these images"
        )
    if params.decision.max_hit_loss is None:
        raise ValueError(
            "calibration.annotation is for decision.max_hit_loss, which is not set; "
            "set it, such as decision.max_hit_loss=0.01, or leave calibration out"
        )
    return True


def read_labelled_hits(
    annotation: str | Path, scores: str | Path, model_name: str, model_sha256: str
) -> LabelledHits:
    """The labelled hits of an annotation file, with their scores of an earlier run.

    annotation: lines such as ``r0027_2000.h5 [1] HIT``. scores: cnn_screen.json of the
    same model. Raises ValueError where the file is not one, is of another model, has
    two images of one name, or none of the labelled hits.
    """
    known = _read_scores(scores, model_name, model_sha256)
    annotations = read_annotations(annotation)
    used, left_out = [], {}
    for a in annotations:
        reason = _why_left_out(a, known, scores)
        (used if reason is None else left_out.setdefault(reason, [])).append(a)
    hits = [a for a in used if a.label is not Label.MISS]
    remarks = [
        f"{len(those)} of the {len(annotations)} labels in {annotation} are left out: "
        f"{reason} ({those[0].file} [{those[0].frame}]"
        f"{' and others' if len(those) > 1 else ''})"
        for reason, those in left_out.items()
    ]
    if not hits:
        raise ValueError(
            f"no image that is labelled Hit or Maybe in {annotation} has a score; "
            f"{'; '.join(remarks) or 'label some of those in ' + str(scores)}"
        )
    return LabelledHits(
        np.array([known[a.file, a.frame] for a in hits]),
        f"{len(hits)} Hit or Maybe labelled in {annotation}",
        remarks,
    )


def _why_left_out(
    a: Annotation, known: dict[tuple[str, int], float | None], scores: str | Path
) -> str | None:
    if a.label is None:
        return "labelled None"
    if (a.file, a.frame) not in known:
        return f"not among the images of {scores}"
    if known[a.file, a.frame] is None:
        return f"not judged, or unlike training, in {scores}, and kept for that"
    return None


def _read_scores(
    path: str | Path, model_name: str, model_sha256: str
) -> dict[tuple[str, int], float | None]:
    """Score of each image by file and frame, None if it is kept whatever its score."""
    model, known = read_scores(path, _score)
    if model["sha256"] != model_sha256:
        raise ValueError(
            f"the scores in '{path}' are of model {model['name']} (sha256 "
            f"{model['sha256']}), and this run's model is {model_name} (sha256 "
            f"{model_sha256}); screen the labelled images again with this model"
        )
    return known


def _score(image: dict) -> float | None:
    # Such images are not lost; the bound is for the others.
    if image["p_hit"] is None or image.get("unlike_training"):
        return None
    score = image["p_hit"] + image["p_maybe"]
    if not 0 <= score <= 1 + ROUNDING:
        raise ValueError(f"P(Hit) + P(Maybe) is {score}")
    return max(min(score, 1.0) - ROUNDING, 0.0)
