"""Labels so far to an eye, and the images that are left in the order of its doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.eye import fit_to_predictions, format_fit
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.viewer.session import Session


def reorder_by_eye(
    session: Session,
    answers: Mapping[ImageName, ImageResult],
    region: Sequence[int] | None = None,
) -> str:
    """Fit an eye to the labels so far, and show next what it is least certain of.

    Images of which the model says nothing come last.

    Args:
        session: Its order is changed.
        answers: What a model without an eye found on the images.
        region: Where the expert looks, as region_of_interest of an Eye.

    Returns:
        What was fitted, a sentence.

    Raises:
        ValueError: There are too few labels, or answers do not have the candidates;
            the order is not changed then.
    """
    labels, names = session.labels, session.labels.names
    known = {
        i: answer.prediction
        for i, name in enumerate(names)
        if (answer := answers.get(name)) is not None and answer.prediction is not None
    }
    # What the model says of images out of distribution means little.
    usable = [
        (label, known[i])
        for i, label in sorted(labels.labels.items())
        if i in known and not known[i].out_of_distribution
    ]
    fitted = fit_to_predictions(
        [prediction for _, prediction in usable],
        [label for label, _ in usable],
        labels.path.name,
        region,
    )
    known = {i: found.seen_by(fitted.eye) for i, found in known.items()}
    session.reorder(
        [known[i].p_keep if i in known else math.nan for i in range(len(names))]
    )
    labels.note(order="eye")
    return format_fit(fitted)
