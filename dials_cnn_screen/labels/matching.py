"""Stills and the labels that an expert gave them, found by file name and frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Annotation, Label, read_annotations
from dials_cnn_screen.labels.splits import Parts


def match_labels(
    stills: Sequence[Still], annotation_files: Iterable[str | Path | None]
) -> list[tuple[Still, Label]]:
    """The labelled stills with their labels, in the order of the stills.

    An annotation names an image by its file's name and its frame. Where files in
    several folders have one name, as many folders as tell them apart stand before it,
    such as ``run1/shots.h5 [1] HIT``. Stills without a label, or labelled None, are
    left out.

    Raises ValueError, with annotation file and line, where an image is not among the
    stills, could be one of several, or is labelled twice, or where nothing is labelled.
    """
    files = [path for path in annotation_files if path is not None]
    if not files:
        raise ValueError("no labels: give annotation=labels.txt")
    by_name: dict[tuple[str, int], list[int]] = {}
    for i, still in enumerate(stills):
        by_name.setdefault((still.file, still.frame), []).append(i)
    found: dict[int, Annotation] = {}
    for path in files:
        for a in read_annotations(path):
            i = _find(a, stills, by_name)
            if i in found:
                raise ValueError(
                    f"{a.where}: {a.file} [{a.frame}] is labelled twice, also in "
                    f"{found[i].where}; keep one of the two lines"
                )
            found[i] = a
    labelled = [
        (stills[i], found[i].label) for i in sorted(found) if found[i].label is not None
    ]
    if not labelled:
        raise ValueError(f"no image is labelled in {', '.join(map(str, files))}")
    return labelled


def match_given_parts(
    stills: Sequence[Still],
    training: Sequence[str | None],
    validation: Sequence[str | None],
    test: Sequence[str | None],
) -> tuple[list[tuple[Still, Label]], Parts]:
    """The labelled stills, and their parts as annotation files give them.

    The test part may be empty. Raises ValueError as match_labels does.
    """
    labelled = match_labels(stills, [*training, *validation, *test])
    place = {id(still): i for i, (still, _) in enumerate(labelled)}
    parts = [
        [place[id(s)] for s, _ in match_labels(stills, files)] if any(files) else []
        for files in (training, validation, test)
    ]
    return labelled, Parts(*(np.array(part, dtype=np.int64) for part in parts))


def position_groups(labelled: Sequence[tuple[Still, Label]]) -> list[str]:
    """The file of each still, within which it has a position.

    Stills that are alone in their files make one group, in their order.
    """
    paths = [image_path(still) for still, _ in labelled]
    number = Counter(paths)
    return [path if number[path] > 1 else "" for path in paths]


def image_path(still: Still) -> str:
    """The file of a still with its folder."""
    return still.imageset.get_path(still.position)


def _find(
    a: Annotation, stills: Sequence[Still], by_name: dict[tuple[str, int], list[int]]
) -> int:
    """Which of the stills an annotation is of; by_name: theirs, by file and frame."""
    named = Path(a.file).parts
    places = [
        i
        for i in by_name.get((named[-1], a.frame), [])
        if Path(image_path(stills[i])).parts[-len(named) :] == named
    ]
    if not places:
        raise ValueError(
            f"{a.where}: {a.file} [{a.frame}] is labelled, but not among the images"
        )
    if len(places) > 1:
        raise ValueError(
            f"{a.where}: {a.file} [{a.frame}] is an image of {len(places)} files, "
            f"{', '.join(image_path(stills[i]) for i in places)}; write the folder "
            "before the file's name"
        )
    return places[0]
