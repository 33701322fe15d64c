"""Annotation files in the form deposited with CXIDB-76: ``r0027_2000.h5 [1] MISS``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dials_cnn_screen.labels.image_name import ImageName, parse_image_name
from dials_cnn_screen.labels.label import Label


@dataclass(frozen=True)
class Annotation:
    """One line of an annotation file.

    Attributes:
        name: The image, as the line names it.
        label: Its class; None where the line says None.
        where: The annotation file and line, for messages.
    """

    name: ImageName
    label: Label | None
    where: str = field(default="", compare=False)


def read_annotations(path: str | Path) -> list[Annotation]:
    """The lines of an annotation file, such as ``r0027_2000.h5 [1] MISS``, in order.

    Raises:
        ValueError: A line is of another form, an image has two lines, or the file
            can't be read.
    """
    annotations: dict[ImageName, Annotation] = {}
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(
            f"annotation file '{path}' can't be read: {error.strerror}"
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        annotation = _parse(line.strip(), f"{path}, line {number}")
        if annotation.name in annotations:
            raise ValueError(
                f"{annotation.where}: {annotation.name} is labelled twice; keep one of "
                "the two lines"
            )
        annotations[annotation.name] = annotation
    return list(annotations.values())


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Write annotations, one image per line; an unlabelled image is given as None."""
    with open(path, "w", encoding="utf-8") as out:
        for a in annotations:
            label = "None" if a.label is None else a.label.name
            out.write(f"{a.name} {label}\n")


def _parse(line: str, where: str) -> Annotation:
    image, _, word = line.rpartition("]")
    try:
        name = parse_image_name(f"{image}]") if image else None
    except ValueError as error:
        if "counted from 1" in str(error):
            raise ValueError(f"{where}: {error}") from None
        name = None
    if name is None or not word[:1].isspace() or len(word.split()) != 1:
        raise ValueError(
            f"{where}: '{line[:60]}' is not of the form 'file.h5 [number] HIT'"
        )
    label = word.strip().upper()
    if label != "NONE" and label not in Label.__members__:
        raise ValueError(
            f"{where}: '{word.strip()[:60]}' is not one of HIT, MAYBE, MISS, None"
        )
    return Annotation(name, Label.__members__.get(label), where)
