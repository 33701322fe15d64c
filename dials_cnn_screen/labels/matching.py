"""Images and the labels that an expert gave them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.image_name import ImageName, NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.splits import Splits


def match_labels(
    names: Sequence[ImageName], annotation_files: Iterable[str | Path | None]
) -> dict[int, Label]:
    """The labelled images and their labels, by index and in the order of the images.

    Names match as image_name.py has it. Images without a label, or labelled None, are
    left out.

    Raises:
        ValueError: With annotation file and line: an image is not among those of the
            names, could be one of several, or is labelled twice; or nothing is
            labelled.
    """
    files = [path for path in annotation_files if path is not None]
    if not files:
        raise ValueError("no labels: give annotation=labels.txt")
    index = NameIndex(names)
    found: dict[int, Annotation] = {}
    for path in files:
        for a in read_annotations(path):
            i = find_annotated(a, index)
            if i is None:
                raise ValueError(
                    f"{a.where}: {a.name} is labelled, but not among the images"
                )
            if i in found:
                raise ValueError(
                    f"{a.where}: {a.name} is labelled twice, also in "
                    f"{found[i].where}; keep one of the two lines"
                )
            found[i] = a
    labelled = {
        i: label for i in sorted(found) if (label := found[i].label) is not None
    }
    if not labelled:
        raise ValueError(f"no image is labelled in {', '.join(map(str, files))}")
    return labelled


def match_given_splits(
    names: Sequence[ImageName],
    training: Sequence[str | None],
    validation: Sequence[str | None],
    test: Sequence[str | None],
) -> tuple[dict[int, Label], Splits]:
    """The labelled images, and their splits as annotation files give them.

    The splits count the labelled images, from 0. That for test may be empty. Raises
    ValueError as match_labels does.
    """
    labelled = match_labels(names, [*training, *validation, *test])
    place = {i: k for k, i in enumerate(labelled)}
    splits = [
        [place[i] for i in match_labels(names, files)] if any(files) else []
        for files in (training, validation, test)
    ]
    return labelled, Splits(*(np.array(split, dtype=np.int64) for split in splits))


def find_annotated(annotation: Annotation, index: NameIndex) -> int | None:
    """Which of the images an annotation is of; None where it is of none.

    Raises:
        ValueError: With annotation file and line: it could be of several.
    """
    try:
        return index.find(annotation.name)
    except ValueError as error:
        raise ValueError(f"{annotation.where}: {error}") from None
