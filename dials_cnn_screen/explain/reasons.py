"""Why one image was classified as it was: sentences, and marks on its frame."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from dials_cnn_screen.architecture import Mark, Overlay
from dials_cnn_screen.explain.results import ImageOnMap
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.outputs.pictures import close_up, whole

# Of a mark of share 1, -1 and 0; by hand, the ends of matplotlib's RdBu.
RED, BLUE, GREY = (178, 24, 43), (33, 102, 172), (120, 120, 120)
# Marks of which there is a close-up; as many as fit side by side.
_CLOSE_UPS = 8
# Opacity of an overlay from the threshold to its farthest value, of 255; by hand.
_OPACITY = (130, 255)


@dataclass(frozen=True)
class OverlayPicture:
    """A picture that lies on a frame.

    Attributes:
        png: In base64.
        slow, fast: The first pixel of the frame under it; may lie outside.
        size: Pixels of the frame along its edges.
    """

    png: str
    slow: int
    fast: int
    size: int


@dataclass(frozen=True, eq=False)
class Reason:
    """Why one image was classified as it was.

    Attributes:
        image: The image.
        prediction: What the model made of it.
        sentences: What the marks say.
        jpeg: The frame, in base64.
        shape: Of the frame, (slow, fast) pixels.
        marks: Those that count most last, so that they lie on top.
        close_ups: JPEG, in base64, of the marks that count most, these first.
        numbers: The same for JSON.
        overlay: On the frame below the marks; None where there is none.
    """

    image: ImageOnMap
    prediction: Prediction
    sentences: list[str]
    jpeg: str
    shape: tuple[int, int]
    marks: list[Mark]
    close_ups: list[tuple[Mark, str]]
    numbers: dict[str, Any]
    overlay: OverlayPicture | None


def find_reason(image: ImageOnMap, model: Model, source: Source) -> Reason:
    """Why an image got its class; it is read again.

    Raises:
        ValueError: The image could not be classified.
    """
    prediction = image.result.prediction
    if prediction is None:
        raise ValueError(f"{image.name} could not be classified: {image.result.error}")
    frame = source.read(image.still)
    explanation = model.entry.explain(
        model.network,
        model.preparation,
        frame,
        model.calibration.temperature,
        prediction.label,
        image.label,
    )
    overlay = explanation.overlay
    marks = sorted(explanation.marks, key=lambda mark: abs(mark.share))
    slow, fast = frame.data.shape
    return Reason(
        image=image,
        prediction=prediction,
        sentences=explanation.sentences,
        jpeg=whole(frame),
        shape=(slow, fast),
        marks=marks,
        close_ups=[
            (mark, close_up(frame, mark.slow, mark.fast))
            for mark in marks[::-1][:_CLOSE_UPS]
        ],
        numbers=explanation.numbers,
        overlay=None if overlay is None else draw_overlay(overlay),
    )


def mark_colour(share: float) -> str:
    """Grey at 0, red at 1, blue at -1."""
    end = np.array(RED if share > 0 else BLUE)
    mixed = np.array(GREY) + (end - GREY) * abs(share) ** 0.5
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def draw_overlay(overlay: Overlay) -> OverlayPicture:
    """Red over 0 and blue below, the less transparent the farther from 0."""
    from matplotlib import image

    size = np.abs(overlay.values)
    farthest = max(size.max(), overlay.threshold + 1e-9)
    strength = np.clip(
        (size - overlay.threshold) / (farthest - overlay.threshold), 0, 1
    )
    least, most = _OPACITY
    picture = np.zeros((*size.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.where(overlay.values[..., None] > 0, RED, BLUE)
    picture[..., 3] = np.where(size > 0, least + (most - least) * strength**0.5, 0)
    png = io.BytesIO()
    image.imsave(png, picture, format="png")
    return OverlayPicture(
        png=base64.b64encode(png.getvalue()).decode(),
        slow=overlay.slow,
        fast=overlay.fast,
        size=overlay.binning * len(overlay.values),
    )
