"""Stills and the labels that an expert gave them, found by file name and frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dials_cnn_screen.labels import Annotation, Label, read_annotations
from dials_cnn_screen.stills import Still


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
