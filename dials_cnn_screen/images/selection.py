"""Some of the images of an experiment list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from dxtbx.imageset import ImageSet
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import Still, of_one_image, one_image
from dials_cnn_screen.util.input_words import parse_ranges


@dataclass(frozen=True)
class Selection:
    """The parameters of select.

    Attributes:
        images: Places in the input from 1, such as 1-500,800; None: all.
        every: Of these, the first of each so many.
        max_images: Of these, at most so many; None: all.
    """

    images: str | None
    every: int
    max_images: int | None


def choose_stills(
    stills: Sequence[Still], selection: Selection, numbers: dict[str, set[int]]
) -> list[bool]:
    """Which stills are chosen.

    Args:
        stills: All of the input.
        selection: Of those that numbers leave.
        numbers: By full path, numbers of images in a file; all of other files.

    Raises:
        ValueError: An image is chosen that is not there, or none is left.
    """
    left = {path: set(chosen) for path, chosen in numbers.items()}
    places = []
    for place, still in enumerate(stills):
        path = os.path.abspath(still.name.path)
        if path not in numbers or still.name.number in numbers[path]:
            places.append(place)
        left.get(path, set()).discard(still.name.number)
    for path, missing in left.items():
        if missing:
            raise ValueError(f"there is no image {min(missing)} in {path}")
    if selection.images is not None:
        wanted = parse_ranges(selection.images)
        if wanted[-1] > len(places):
            raise ValueError(
                f"select.images={selection.images}: the input has {len(places)} images"
            )
        places = [places[number - 1] for number in wanted]
    chosen = set(places[:: selection.every][: selection.max_images])
    return [place in chosen for place in range(len(stills))]


def select_experiments(
    experiments: ExperimentList, stills: Sequence[Still], chosen: Sequence[bool]
) -> ExperimentList:
    """The experiments of the chosen stills, with their models as they are.

    Each has the image that it is of, and no other, so that no program looks at images
    that were not chosen. An experiment of several images becomes one for each.
    """
    if all(chosen):
        return experiments
    members: dict[int, list[tuple[int, ImageSet]]] = {}
    for still, wanted in zip(stills, chosen, strict=True):
        if wanted:
            imageset = one_image(still.imageset, still.position)
            for number in still.experiments:
                members.setdefault(number, []).append((still.position, imageset))
    selected = ExperimentList()
    for number in sorted(members):
        for position, imageset in sorted(members[number], key=itemgetter(0)):
            selected.append(of_one_image(experiments[number], position, imageset))
    return selected
