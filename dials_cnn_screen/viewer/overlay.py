"""Spots to be circled on the images: the model's, or those of dials.find_spots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from dxtbx import flumpy
from dxtbx.model import ExperimentList
from numpy.typing import NDArray

from dials_cnn_screen.images.stills import name_image
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.results import ImageResult

if TYPE_CHECKING:
    from dials.array_family import flex


class Spots(NamedTuple):
    """Spots of one image.

    Attributes:
        positions: float64 (n, 2), (slow, fast) in pixels from the outer corner of the
            first pixel, as in dxtbx.
        panels: int (n,), the panels that these are pixels of; None where they are
            pixels of the frame that the model sees (images/frame.py), which is the
            image if the detector has one panel.
    """

    positions: NDArray[np.float64]
    panels: NDArray[np.int64] | None


def spots_in_results(
    names: Sequence[ImageName], results: Sequence[ImageResult | None]
) -> dict[ImageName, Spots]:
    """The spots that the model found on the images of these names.

    Args:
        names: (n,), the images.
        results: (n,), their results; None for an image without one.

    Raises:
        ValueError: The results have no spots, since the model looks for none.
    """
    found = {
        name: Spots(result.prediction.spots + 0.5, None)
        for name, result in zip(names, results, strict=True)
        if result and result.prediction and result.prediction.spots is not None
    }
    if not found:
        raise ValueError(
            "the scores have no spots of these images; screen them with model=default"
        )
    return found


def spots_in_reflections(
    experiments: ExperimentList, tables: Iterable[flex.reflection_table]
) -> dict[ImageName, Spots]:
    """The spots that dials.find_spots found on the images of these experiments.

    Raises:
        ValueError: A reflection table is of other experiments.
    """
    positions: dict[ImageName, list[NDArray[np.float64]]] = {}
    panels: dict[ImageName, list[NDArray[np.int64]]] = {}
    for table in tables:
        ids = flumpy.to_numpy(table["id"])
        if ids.max(initial=-1) >= len(experiments):
            raise ValueError(
                f"the reflections are of {ids.max() + 1} experiments, but there are "
                f"{len(experiments)}; give the reflections of these images"
            )
        fast_slow_z = flumpy.to_numpy(table["xyzobs.px.value"])
        panel = flumpy.to_numpy(table["panel"])
        for i in np.unique(ids[ids >= 0]):
            imageset = experiments[int(i)].imageset
            index = np.clip(fast_slow_z[:, 2].astype(int), 0, len(imageset) - 1)
            for position in np.unique(index[ids == i]):
                chosen = (ids == i) & (index == position)
                name = name_image(imageset, int(position))
                positions.setdefault(name, []).append(fast_slow_z[chosen, 1::-1])
                panels.setdefault(name, []).append(panel[chosen])
    return {
        name: Spots(np.concatenate(those), np.concatenate(panels[name]))
        for name, those in positions.items()
    }
