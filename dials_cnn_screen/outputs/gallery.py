"""Pictures of images with what was found of them, for the reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.ke2018.preprocessing import crop_corner
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.outputs.pictures import EDGE, GALLERY_BLOCK, full_middle, middle
from dials_cnn_screen.screening.decision import KeptBecause
from dials_cnn_screen.screening.results import ImageResult

_KEPT = {
    KeptBecause.ERROR: "kept, since it could not be classified",
    KeptBecause.OUT_OF_DISTRIBUTION: "kept, since it is out of distribution",
    KeptBecause.P_KEEP: "kept",
    KeptBecause.AUDIT: "kept for the audit",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a gallery.

    Attributes:
        name: The image, with as much of the path as tells images apart.
        result: What was found of it.
        title: Its class.
        expert: The class that an expert gave it, if any.
        caption: Spots, resolution, whether it is kept and why, notes.
        jpeg: The middle of the frame, in base64.
        corner: (slow, fast) pixel of the frame at the corner of the picture.
        large: The same pixel by pixel, in base64; empty where it can't be enlarged.
    """

    name: ImageName
    result: ImageResult
    title: str
    expert: str
    caption: str
    jpeg: str
    corner: tuple[int, int]
    large: str = ""


def make_picture(
    result: ImageResult,
    name: ImageName,
    frame: Frame,
    max_spots: int | None,
    expert: Label | None = None,
    note: str = "",
    kept_shown: bool = True,
    enlarges: bool = False,
) -> Picture:
    """The picture of a frame that was classified.

    Args:
        result: What was found of it.
        name: As it is shown.
        frame: Its pixels.
        max_spots: How many spots the model finds at most.
        expert: Its label, if any.
        note: What else there is to say.
        kept_shown: Whether images are kept or rejected here.
        enlarges: Whether it can be enlarged to full pixels.
    """
    remarks = [
        format_spots(result, max_spots),
        "" if result.d_min is None else f"to {result.d_min:.1f} A",
        _KEPT[result.kept_because] if kept_shown and result.kept_because else "",
        note,
    ]
    if result.prediction is not None and result.out_of_distribution:
        remarks.append(f"out-of-distribution score {result.prediction.ood_score:.2f}")
    return Picture(
        name,
        result,
        result.title,
        "" if expert is None else expert.title,
        ", ".join(filter(None, remarks)),
        middle(frame, GALLERY_BLOCK, quality=90),
        crop_corner(frame.beam_centre, EDGE),
        full_middle(frame) if enlarges else "",
    )


def format_spots(result: ImageResult, max_spots: int | None) -> str:
    """The number of spots; empty where the model looks for none.

    Where the class is not that of the number it says why: the class comes from all
    candidates together, and a spot is a candidate that is likelier one than not.
    """
    n, label = None, result.label
    if result.prediction is not None:
        n = result.prediction.n_spots
    if n is None or label is None:
        return ""
    all_found = n != max_spots
    text = f"{n} spot{'s' * (n != 1)}" if all_found else f"{n} or more spots"
    expected = label_from_spots(n)
    if label == expected or (label < expected and not all_found):
        return text
    if label < expected:
        text += " seen for certain"
    if label is Label.MISS:
        # Not rounded up to the threshold, which would make it no Miss.
        p_keep = min(result.p_keep, PAPER_THRESHOLD - 0.01)
        return f"{text}; a Miss since P(Hit) + P(Maybe) = {p_keep:.2f}"
    if expected is Label.MISS:
        return f"{text}; not a Miss since P(Hit) + P(Maybe) = {result.p_keep:.2f}"
    return f"{text}; likelier a {label.title} than a {expected.title}"


class Failure(NamedTuple):
    """An image that could not be classified, and why."""

    name: ImageName
    error: str


def name_failures(
    images: Sequence[ImageResult], names: Sequence[ImageName]
) -> list[Failure]:
    """The images that could not be classified, under the names that are shown."""
    return [
        Failure(name, str(image.error))
        for image, name in zip(images, names, strict=True)
        if image.prediction is None
    ]
