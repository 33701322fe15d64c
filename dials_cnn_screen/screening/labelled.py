"""Labelled images of an earlier run, with what the model said of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.image_name import ImageName, NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import find_annotated
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    ScreeningResults,
    read_results,
)


@dataclass(frozen=True, eq=False)
class LabelledRun:
    """Images with an expert's label and a prediction.

    Attributes:
        images: Labels and results.
        labelled_as: What the annotation file calls each of them.
        left_out: Labels that were not used, a line for each reason.
    """

    images: list[tuple[Label, ImageResult]]
    labelled_as: list[ImageName]
    left_out: list[str]


def read_labelled_images(
    annotation: str | Path, scores: str | Path, model: ModelSummary
) -> LabelledRun:
    """The labelled images of an annotation file, with their results of an earlier run.

    Args:
        annotation: Lines such as ``r0027_2000.h5 [1] HIT``.
        scores: cnn_screen.json of the same model, without an eye.
        model: That of this run.

    Raises:
        ValueError: A file is not one, or is of another model or by an eye; or a label
            could be of several of its images.
    """
    results = read_results(scores)
    _check_model(results, scores, model)
    check_own(results, scores)
    index = NameIndex([image.name for image in results.images])
    annotations = read_annotations(annotation)
    used: list[tuple[Label, ImageResult]] = []
    labelled_as: list[ImageName] = []
    left_out: dict[str, list[Annotation]] = {}
    for a in annotations:
        i = find_annotated(a, index)
        image = None if i is None else results.images[i]
        reason = _why_left_out(a, image, scores)
        if reason is not None:
            left_out.setdefault(reason, []).append(a)
        elif a.label is not None and image is not None:
            used.append((a.label, image))
            labelled_as.append(a.name)
    remarks = [
        f"{len(those)} of the {len(annotations)} labels in {annotation} are left out: "
        f"{reason} ({those[0].name}{' and others' if len(those) > 1 else ''})"
        for reason, those in left_out.items()
    ]
    return LabelledRun(used, labelled_as, remarks)


def check_own(run: ScreeningResults, scores: str | Path) -> None:
    """Raise ValueError where the classes of a run are by an eye, not the model's own.

    scores: the file of the run.
    """
    if run.decision.eye is not None:
        raise ValueError(
            f"the scores in '{scores}' are by an eye (visible_sigma="
            f"{run.decision.eye.visible_sigma:g}), and those of the model by itself "
            "are needed; give the cnn_screen.json of a run without eye"
        )


def _check_model(
    results: ScreeningResults, scores: str | Path, model: ModelSummary
) -> None:
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
    # Such images are kept whatever the model says of them, which means little.
    if image.prediction is None or image.out_of_distribution:
        return (
            f"could not be classified, or out of distribution, in {scores}, and kept "
            "for that"
        )
    return None
