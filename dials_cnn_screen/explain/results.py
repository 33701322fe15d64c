"""What was found of each image, and which images are similar: cnn_explain.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.explain.embedding import embed, nearest, perplexity, why_no_map
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label, count_labels
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    image_as_json,
)

# Neighbours of each image; with itself they make a gallery of twelve.
NEAREST = 11
# Digits of positions and distances.
_DIGITS = 4


@dataclass(frozen=True)
class Neighbour:
    """An image and how far it is from another one.

    Attributes:
        index: Of the image, among all that were given.
        distance: Euclidean, between the feature vectors.
    """

    index: int
    distance: float


class Screened(NamedTuple):
    """An image as it was screened.

    Attributes:
        result: With the features.
        thumbnail: JPEG in base64; None where the image could not be classified.
    """

    result: ImageResult
    thumbnail: str | None


@dataclass(frozen=True, eq=False)
class ImageOnMap:
    """An image among the others; collect_results makes them.

    Attributes:
        index: Among all images given, from 0.
        still: The image.
        name: With as much of the path as tells all images given apart.
        result: What was found of it.
        label: The expert's; None where there is none.
        thumbnail: JPEG in base64; None where it could not be classified.
        position: (x, y) on the map, from 0 to 1; None where it is not on a map.
        nearest: Others with the most similar features, the nearest first.
    """

    index: int
    still: Still
    name: ImageName
    result: ImageResult
    label: Label | None
    thumbnail: str | None
    position: tuple[float, float] | None
    nearest: list[Neighbour]

    @property
    def misclassified(self) -> bool:
        """Whether its class is known not to be the expert's."""
        known = self.label is not None and self.result.label is not None
        return known and self.label is not self.result.label

    @property
    def p_label(self) -> float:
        """The probability of the expert's class; NaN where it is not known."""
        prediction = self.result.prediction
        if self.label is None or prediction is None:
            return math.nan
        return float(prediction.probabilities[self.label])


@dataclass(frozen=True, eq=False)
class MapResults:
    """The images that were screened, and the map of their feature vectors.

    Attributes:
        model: That classified them.
        n_given: Number of images given, from which these may have been drawn.
        seed: Of the draw and of the map.
        no_map: Why there is no map; empty where there is one.
        images: In the order of their indices.
    """

    model: ModelSummary
    n_given: int
    seed: int
    no_map: str
    images: list[ImageOnMap]

    @property
    def classified(self) -> list[ImageOnMap]:
        """Those that could be classified."""
        return [image for image in self.images if image.result.prediction is not None]

    @property
    def failed(self) -> list[ImageOnMap]:
        """Those that could not."""
        return [image for image in self.images if image.result.prediction is None]

    @property
    def labelled(self) -> list[ImageOnMap]:
        """Those with a label of the expert."""
        return [image for image in self.images if image.label is not None]

    def by_doubt(self) -> list[ImageOnMap]:
        """Those that could be classified, the most doubtful first."""
        return sorted(
            self.classified,
            key=lambda image: abs(image.result.p_keep - PAPER_THRESHOLD),
        )

    def misclassified(self) -> dict[str, list[ImageOnMap]]:
        """Those whose class is not the expert's, by kind of error, the worst first."""
        kinds: dict[str, list[ImageOnMap]] = {
            "Lost hits (labelled Hit or Maybe, called Miss)": [],
            "False alarms (labelled Miss, called Hit or Maybe)": [],
            "Hit and Maybe confused (labelled one, called the other)": [],
        }
        lost, false_alarms, confused = kinds.values()
        wrong = [image for image in self.images if image.misclassified]
        for image in sorted(wrong, key=lambda image: image.p_label):
            if image.result.label is Label.MISS:
                lost.append(image)
            elif image.label is Label.MISS:
                false_alarms.append(image)
            else:
                confused.append(image)
        return kinds

    def summary(self) -> dict[str, int]:
        """Numbers of images: given, screened, of each class, failed and labelled."""
        counts = count_labels(
            image.result.label
            for image in self.images
            if image.result.label is not None
        )
        return {
            "given": self.n_given,
            "images": len(self.images),
            **{label.key: n for label, n in counts.items()},
            "failed": len(self.failed),
            "labelled": len(self.labelled),
        }

    def map_as_json(self) -> dict[str, Any]:
        """How the map was made, or why there is none."""
        n = len(self.classified)
        return {
            "method": "t-SNE",
            "random_seed": self.seed,
            "perplexity": None if self.no_map else round(perplexity(n), 2),
            "missing": self.no_map or None,
        }

    def as_json(self, reasons: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        """All results, in the form of cnn_explain.json.

        Args:
            reasons: Numbers of the images that are explained, by index.
        """
        return {
            "program": "dials.cnn_explain",
            "version": __version__,
            "model": asdict(self.model),
            "map": self.map_as_json(),
            "summary": self.summary(),
            "images": [_as_json(image, reasons) for image in self.images],
        }


def collect_results(
    indices: Sequence[int],
    stills: Sequence[Still],
    screened: Sequence[Screened],
    labels: Mapping[int, Label],
    names: Sequence[ImageName],
    model: ModelSummary,
    seed: int,
) -> MapResults:
    """Put the images on a map and find the neighbours of each.

    Args:
        indices: Of the images that were screened.
        stills: All that were given.
        screened: At each of the indices.
        labels: The expert's, by index.
        names: Of all stills, as they are shown.
        model: That classified the images.
        seed: Of the map.
    """
    features = {
        index: image.result.prediction.features
        for index, image in zip(indices, screened, strict=True)
        if image.result.prediction is not None
    }
    vectors = np.array(list(features.values()))
    no_map = why_no_map(vectors)
    positions = {} if no_map else _find_positions(list(features), vectors, seed)
    neighbours = _find_neighbours(list(features), vectors)
    images = [
        ImageOnMap(
            index=index,
            still=stills[index],
            name=names[index],
            result=image.result,
            label=labels.get(index),
            thumbnail=image.thumbnail,
            position=positions.get(index),
            nearest=neighbours.get(index, []),
        )
        for index, image in zip(indices, screened, strict=True)
    ]
    return MapResults(model, len(stills), seed, no_map, images)


def _find_positions(
    indices: list[int], features: NDArray[np.float32], seed: int
) -> dict[int, tuple[float, float]]:
    """Where on the map the images of these indices and features (n, f) are."""
    rows = embed(features, seed).round(_DIGITS).tolist()
    return {index: (x, y) for index, (x, y) in zip(indices, rows, strict=True)}


def _find_neighbours(
    indices: list[int], features: NDArray[np.float32]
) -> dict[int, list[Neighbour]]:
    """The nearest others of the images of these indices and features (n, f)."""
    rows, distances = nearest(features, NEAREST)  # (n, k), (n, k)
    return {
        index: [
            Neighbour(indices[other], round(distance, _DIGITS))
            for other, distance in zip(others, away, strict=True)
        ]
        for index, others, away in zip(
            indices, rows.tolist(), distances.tolist(), strict=True
        )
    }


def _as_json(
    image: ImageOnMap, reasons: Mapping[int, dict[str, Any]]
) -> dict[str, Any]:
    """What cnn_explain.json says of one image."""
    entry = image_as_json(image.index, image.result, image.name)
    # Nothing is kept or rejected here.
    del entry["kept"], entry["kept_because"], entry["candidates"]
    x, y = image.position or (None, None)
    entry |= {
        "label": None if image.label is None else image.label.title,
        "x": x,
        "y": y,
        "nearest": [asdict(near) for near in image.nearest],
    }
    if image.index in reasons:
        entry["reason"] = reasons[image.index]
    return entry
