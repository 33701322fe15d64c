"""What the network made of each image, and which images are alike: cnn_explain.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dials_cnn_screen import __version__
from dials_cnn_screen.explain.embedding import embed, nearest, perplexity, why_no_map
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.classifier import Classifier
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.outputs.pictures import thumbnail
from dials_cnn_screen.labels.probabilities import keep_score
from dials_cnn_screen.screening.run import Judgement, examine
from dials_cnn_screen.screening.summary import image_entry, model_entry
from dials_cnn_screen.spots.influence import HALF

# Neighbours of each image; with itself they make a sheet of twelve.
NEAREST = 11


class Look(NamedTuple):
    """A judgement, with what makes the image comparable, and seen.

    features: float32 (f,); thumbnail: JPEG in base64. None with an error.
    """

    judgement: Judgement
    features: np.ndarray | None
    thumbnail: str | None


def look(still: Still, classifier: Classifier) -> Look:
    """Judge one still, and keep its features and a thumbnail."""
    judgement, frame, answer = examine(still, classifier)
    if answer is None:
        return Look(judgement, None, None)
    return Look(judgement, answer.features, thumbnail(frame))


def choose_images(n: int, most: int, always: Collection[int], seed: int) -> list[int]:
    """Indices of the images to look at, in order: all n, or so many drawn at random.

    always: those that are among them whatever is drawn.
    """
    if n <= most:
        return list(range(n))
    others = np.setdiff1d(np.arange(n), list(always))
    n_drawn = max(most - len(set(always)), 0)
    drawn = np.random.default_rng(seed).choice(others, n_drawn, replace=False)
    return sorted({*always, *drawn.tolist()})


def gather(
    looks: Sequence[Look],
    indices: Sequence[int],
    stills: Sequence[Still],
    labels: Mapping[int, Label],
    model: Model,
    seed: int,
) -> dict:
    """All that is known of the images, in the form of cnn_explain.json.

    looks: at stills[i] for i of indices. labels: the expert's, by index. seed: of the
    map. An image has x and y, its place on the map from 0 to 1, where there is a map,
    and nearest, others with their distance in feature space, the nearest first.
    """
    images = [
        _entry(i, stills[i], sight.judgement, labels.get(i))
        for i, sight in zip(indices, looks, strict=True)
    ]
    judged = [k for k, sight in enumerate(looks) if sight.features is not None]
    features = np.array([looks[k].features for k in judged])
    no_map = why_no_map(features)
    places = np.empty((0, 2)) if no_map else embed(features, seed)
    neighbours, distances = nearest(features, NEAREST)
    for row, k in enumerate(judged):
        x, y = (None, None) if no_map else places[row].round(4).tolist()
        others = [
            {"index": indices[judged[other]], "distance": round(distance, 4)}
            for other, distance in zip(
                neighbours[row].tolist(), distances[row].tolist(), strict=True
            )
        ]
        images[k] |= {"x": x, "y": y, "nearest": others}
    classes = [image["class"] for image in images]
    return {
        "program": "dials.cnn_explain",
        "version": __version__,
        "model": model_entry(model),
        "map": {
            "method": "t-SNE",
            "random_seed": seed,
            "perplexity": None if no_map else round(perplexity(len(features)), 2),
            "missing": no_map or None,
        },
        "summary": {
            "given": len(stills),
            "images": len(images),
            **{label.name.lower(): classes.count(label.title) for label in Label},
            "failed": len(images) - len(judged),
            "labelled": sum(image["label"] is not None for image in images),
        },
        "images": images,
    }


def by_doubt(results: dict) -> list[dict]:
    """The judged images of the results, the most doubtful first."""
    judged = [image for image in results["images"] if image["error"] is None]
    return sorted(judged, key=lambda image: abs(score(image) - HALF))


def wrong(results: dict) -> dict[str, list[dict]]:
    """The images whose class is not the expert's, by kind of error, the worst first."""
    told_apart = [
        image
        for image in results["images"]
        if None not in (image["label"], image["class"])
        and image["label"] != image["class"]
    ]
    miss = Label.MISS.title
    kinds = {
        "Lost: taken for a Miss": lambda image: image["class"] == miss,
        "False alarm: a Miss to the expert": lambda image: image["label"] == miss,
        "Hit and Maybe mixed up": lambda image: (
            miss not in (image["label"], image["class"])
        ),
    }
    return {
        title: sorted(
            filter(is_of_kind, told_apart),
            key=lambda image: image[f"p_{image['label'].lower()}"],
        )
        for title, is_of_kind in kinds.items()
    }


def score(image: dict) -> float:
    """P(Hit) + P(Maybe) of an image of the results."""
    return image["p_hit"] + image["p_maybe"]


def _entry(index: int, still: Still, judgement: Judgement, label: Label | None) -> dict:
    p = judgement.probabilities
    entry = image_entry(index, still, judgement, p is None or keep_score(p) >= HALF)
    del entry["kept"]  # nothing is kept or rejected here
    entry["label"] = None if label is None else label.title
    return {**entry, "x": None, "y": None, "nearest": []}
