"""Spots to be circled on the images: the model's, or those of dials.find_spots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from dxtbx import flumpy
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import find_image
from dials_cnn_screen.labels.label_file import Name

# Path of an image's file, its number there from 1.
Image = tuple[str, int]


class Spots(NamedTuple):
    """Spots of one image.

    places: float64 (n, 2), (slow, fast) in pixels from the outer corner of the first,
    as in dxtbx. panels: int (n,), the panels that these are pixels of; None for the
    frame that the model sees (see frames.py), which is the image if it has one panel.
    """

    places: np.ndarray
    panels: np.ndarray | None


def spots_in_scores(
    images: Sequence[Image], names: Sequence[Name], scores: Mapping[Name, dict]
) -> dict[Image, Spots]:
    """What the model took for spots, by the entries of cnn_screen.json.

    Raises ValueError where the model does not look for spots.
    """
    found = {}
    for image, name in zip(images, names, strict=True):
        spots = scores.get(name, {}).get("spots")
        if spots is not None:
            places = np.asarray(spots, dtype=np.float64).reshape(-1, 2)
            found[image] = Spots(places + 0.5, None)
    if not found:
        raise ValueError(
            "these scores have no spots of these images; screen them with model=default"
        )
    return found


def spots_in_reflections(
    experiments: ExperimentList, tables: Sequence[Any]
) -> dict[Image, Spots]:
    """What dials.find_spots took for spots, by its reflection tables.

    Raises ValueError where a table is of other experiments.
    """
    places: dict[Image, list[np.ndarray]] = {}
    panels: dict[Image, list[np.ndarray]] = {}
    for table in tables:
        numbers = flumpy.to_numpy(table["id"])
        if numbers.max(initial=-1) >= len(experiments):
            raise ValueError(
                f"the reflections are of {numbers.max() + 1} experiments, and there "
                f"are {len(experiments)}; find the spots of these images"
            )
        fast_slow_z = flumpy.to_numpy(table["xyzobs.px.value"])
        panel = flumpy.to_numpy(table["panel"])
        for number in np.unique(numbers[numbers >= 0]):
            imageset = experiments[int(number)].imageset
            of_experiment = numbers == number
            position = np.clip(fast_slow_z[:, 2].astype(int), 0, len(imageset) - 1)
            for index in np.unique(position[of_experiment]):
                chosen = of_experiment & (position == index)
                image = find_image(imageset, int(index))
                places.setdefault(image, []).append(fast_slow_z[chosen, 1::-1])
                panels.setdefault(image, []).append(panel[chosen])
    return {
        image: Spots(np.concatenate(those), np.concatenate(panels[image]))
        for image, those in places.items()
    }
