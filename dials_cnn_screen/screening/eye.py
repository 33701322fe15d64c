"""The eye of a run: as given, or fitted to an expert's labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.screening.labelled import read_labelled_images
from dials_cnn_screen.screening.results import ModelSummary
from dials_cnn_screen.spots.eye import MODEL_SIGMA, Eye
from dials_cnn_screen.spots.eye_fit import EyeFit, fit_eye

# Of fewer labels a single slip would make an eye: by hand.
LEAST_LABELS = 10

logger = logging.getLogger("dials.cnn_screen.eye")


@dataclass(frozen=True)
class EyeRule:
    """The parameters of eye.

    Raises:
        ValueError: They do not go together.
    """

    visible_sigma: float | None
    annotation: str | None
    scores: str | None
    region_of_interest: list[int] | None = None

    def __post_init__(self) -> None:
        if (self.annotation is None) != (self.scores is None):
            raise ValueError(
                "eye.annotation and eye.scores go together: give both, the labels and "
                "the cnn_screen.json that has these images"
            )
        if self.visible_sigma is not None and self.annotation is not None:
            raise ValueError(
                "eye.visible_sigma is given, and eye.annotation to fit it to; leave "
                "one out"
            )
        if self.region_of_interest is not None and not self.is_set:
            raise ValueError(
                "eye.region_of_interest is where an eye looks, and there is none; set "
                "eye.visible_sigma or eye.annotation, or leave it out"
            )

    @property
    def is_set(self) -> bool:
        """Whether there is to be an eye."""
        return self.visible_sigma is not None or self.annotation is not None


@dataclass(frozen=True)
class ChosenEye:
    """The eye of a run.

    Attributes:
        eye: None: the model's own classes.
        fitted_to: The images whose labels it was fitted to.
        labelled: Label, and P(Hit) + P(Maybe) by the eye, of each of them.
    """

    eye: Eye | None = None
    fitted_to: list[ImageName] = field(default_factory=list)
    labelled: list[tuple[Label, float]] = field(default_factory=list)


NO_EYE = ChosenEye()


def choose_eye(rule: EyeRule, model: ModelSummary) -> ChosenEye:
    """The eye that the parameters ask for; labels that are not used are logged.

    Raises:
        ValueError: The model looks for no spots, or labels that can't be used.
    """
    if not rule.is_set:
        return NO_EYE
    if model.max_spots is None:
        raise ValueError(
            f"model {model.name} does not look for spots, so that no eye can count "
            "them; leave eye out, or use model=default"
        )
    if rule.visible_sigma is not None:
        eye = Eye(rule.visible_sigma, region_of_interest=rule.region_of_interest)
        return ChosenEye(eye)
    annotation, scores = str(rule.annotation), str(rule.scores)
    labelled = read_labelled_images(annotation, scores, model)
    for line in labelled.left_out:
        logger.warning("%s", line)
    labels = [label for label, _ in labelled.images]
    found = [image.prediction for _, image in labelled.images]
    predictions = [p for p in found if p is not None]
    fitted = fit_to_predictions(
        predictions, labels, annotation, rule.region_of_interest
    )
    logger.info("%s", format_fit(fitted))
    # Of a file that was moved since, images are known by what the labels call them.
    names = [
        image.name if os.path.exists(image.name.path) else called
        for (_, image), called in zip(
            labelled.images, labelled.labelled_as, strict=True
        )
    ]
    seen = [prediction.seen_by(fitted.eye).p_keep for prediction in predictions]
    return ChosenEye(fitted.eye, names, list(zip(labels, seen, strict=True)))


def fit_to_predictions(
    predictions: list[Prediction],
    labels: list[Label],
    annotation: str,
    region: Sequence[int] | None = None,
) -> EyeFit:
    """Fit an eye to labels of images, by the model's own predictions for them.

    Args:
        predictions: n, without an eye.
        labels: n.
        annotation: The file of the labels.
        region: Where the expert looked, as region_of_interest of an Eye.

    Raises:
        ValueError: There are too few, or a prediction does not have the candidates.
    """
    if len(labels) < LEAST_LABELS:
        raise ValueError(
            f"{len(labels)} of the images that are labelled in {annotation} can be "
            f"used to fit an eye, which takes {LEAST_LABELS}, or better twenty; label "
            "more of those that were screened"
        )
    source = f"{len(labels)} image{'s' * (len(labels) != 1)} labelled in {annotation}"
    frames = [p.candidates for p in predictions if p.candidates is not None]
    if len(frames) < len(labels):
        raise ValueError(
            "the scores do not have the candidates of the images, by which an eye is "
            "fitted; screen the labelled images again with this version"
        )
    own = np.array([p.probabilities for p in predictions])
    return fit_eye(frames, own, labels, source, region)


def format_fit(fitted: EyeFit) -> str:
    """What was fitted."""
    low, high = fitted.interval
    eye = fitted.eye
    text = (
        f"By {eye.source} the expert sees spots of {eye.visible_sigma:.1f} standard "
        f"deviations or more (95% interval {low:.1f} to {high:.1f})."
    )
    if eye.own_percent:
        text += (
            f" With a probability of {eye.own_percent}% the labels follow the model's "
            f"own classes, of spots over {MODEL_SIGMA}, which have this weight."
        )
    if eye.lapse_percent:
        text += (
            f" Some {eye.lapse_percent}% of the labels follow no number of spots that "
            "stand out; no eye tells the classes of such images."
        )
    return text
