"""The three classes, and annotation files in the form deposited with CXIDB-76."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

HIT_SPOTS = 10
MAYBE_SPOTS = 4


class Label(IntEnum):
    """A still's class; the value is its column in a network's output."""

    HIT = 0
    MAYBE = 1
    MISS = 2

    @property
    def title(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True)
class Annotation:
    """One line of an annotation file: image file name, frame from 1, label or None.

    where: the annotation file and line that it is from, for messages.
    """

    file: str
    frame: int
    label: Label | None
    where: str = field(default="", compare=False)


_LINE = re.compile(r"^(?P<file>\S.*?)\s+\[(?P<frame>\d+)\]\s+(?P<label>\S+)$")


def label_from_spots(n_spots: int) -> Label:
    """Class of a still with n_spots visible Bragg spots (section 3.3.1).

    Ten or more are a Hit, four to nine a Maybe, fewer a Miss.
    """
    if n_spots >= HIT_SPOTS:
        return Label.HIT
    return Label.MAYBE if n_spots >= MAYBE_SPOTS else Label.MISS


def read_annotations(path: str | Path) -> list[Annotation]:
    """Lines of an annotation file, such as ``r0027_2000.h5 [1] MISS``, in order.

    Raises ValueError for a line of another form, an image that stands there twice, and
    a file that can't be read.
    """
    annotations: dict[tuple[str, int], Annotation] = {}
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
        key = (annotation.file, annotation.frame)
        if key in annotations:
            raise ValueError(
                f"{path}, line {number}: {key[0]} [{key[1]}] is labelled twice; "
                "keep one of the two lines"
            )
        annotations[key] = annotation
    return list(annotations.values())


def write_annotations(path: str | Path, annotations: Iterable[Annotation]) -> None:
    """Write annotations, one line an image; an unlabelled image is given as None."""
    with open(path, "w", encoding="utf-8") as out:
        for a in annotations:
            label = "None" if a.label is None else a.label.name
            out.write(f"{a.file} [{a.frame}] {label}\n")


def _parse(line: str, where: str) -> Annotation:
    match = _LINE.match(line)
    if not match:
        raise ValueError(
            f"{where}: '{line[:60]}' is not of the form 'file.h5 [frame] HIT'"
        )
    name = match["label"].upper()
    if name != "NONE" and name not in Label.__members__:
        raise ValueError(
            f"{where}: '{match['label']}' is not one of HIT, MAYBE, MISS, None"
        )
    frame = int(match["frame"])
    if frame < 1:
        raise ValueError(f"{where}: frames are counted from 1, not {frame}")
    return Annotation(match["file"], frame, Label.__members__.get(name), where)
