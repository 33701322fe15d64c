"""What a screening run came to: counts, rates and their uncertainty, its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dials_cnn_screen import __version__
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.screening.decision import Decision, classify, keep_score
from dials_cnn_screen.screening.run import Judgement
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.util.files import replacing


def summarise(
    stills: Sequence[Still],
    judgements: Sequence[Judgement],
    kept: Sequence[bool],
    model: Model,
    decision: Decision,
) -> dict:
    """All results of a run, in the form of cnn_screen.json: one entry an image."""
    rows = enumerate(zip(stills, judgements, kept, strict=True))
    return collect([image_entry(index, *row) for index, row in rows], model, decision)


def collect(images: list[dict], model: Model, decision: Decision) -> dict:
    """Entries of images, with what there is to say of all, as in cnn_screen.json."""
    classes = [image["class"] for image in images]
    return {
        "program": "dials.cnn_screen",
        "version": __version__,
        "model": model_entry(model),
        "decision": asdict(decision),
        "summary": {
            "images": len(images),
            "hit": classes.count(Label.HIT.title),
            "maybe": classes.count(Label.MAYBE.title),
            "miss": classes.count(Label.MISS.title),
            "failed": classes.count(None),
            "kept": sum(image["kept"] for image in images),
            "unlike": _count_unlike(model, images),
        },
        "images": images,
    }


def model_entry(model: Model) -> dict:
    """What cnn_screen.json says of the model."""
    return {
        "name": model.name,
        "sha256": model.sha256,
        "architecture": model.architecture,
        "trained_on": model.trained_on,
        "most_spots": _most_spots(model),
    }


def image_entry(index: int, still: Still, judgement: Judgement, kept: bool) -> dict:
    """What cnn_screen.json says of one image."""
    p = judgement.probabilities
    entry = {"index": index, "file": still.file, "frame": still.frame}
    for label in Label:
        key = f"p_{label.name.lower()}"
        entry[key] = None if p is None else round(float(p[label]), 4)
    entry["class"] = None if p is None else classify(p).title
    entry["kept"] = bool(kept)
    entry["error"] = judgement.error
    strangeness, spots = judgement.strangeness, judgement.spots
    entry["unlike_training"] = judgement.unlike_training
    entry["strangeness"] = None if strangeness is None else round(strangeness, 3)
    entry["n_spots"] = None if spots is None else len(spots)
    entry["spots"] = None if spots is None else spots.tolist()
    return entry


def keep_scores(judgements: Sequence[Judgement]) -> np.ndarray:
    """P(Hit) + P(Maybe) of each image, float64 (n,); NaN where it was not judged."""
    return np.array(
        [
            np.nan if j.probabilities is None else keep_score(j.probabilities)
            for j in judgements
        ]
    )


def unlike_training(judgements: Sequence[Judgement]) -> np.ndarray:
    """Which images are known to be unlike the model's training, bool (n,)."""
    return np.array([j.unlike_training is True for j in judgements])


def strangest(results: dict) -> list[dict]:
    """The images of the results that are unlike training, the strangest first."""
    unlike = [image for image in results["images"] if image["unlike_training"]]
    return sorted(unlike, key=lambda image: -image["strangeness"])


def tell_unlike(results: dict) -> str:
    """How many images of the results are unlike training, a line; empty if none."""
    n, total = results["summary"]["unlike"], results["summary"]["images"]
    if not n:
        return ""
    are, they, these = ("is", "it is", "it") if n == 1 else ("are", "they are", "these")
    return (
        f"{n} of {total} images {are} unlike anything the model was trained on; "
        f"{they} kept; look at {these}"
    )


def mean_seconds(judgements: Sequence[Judgement]) -> np.ndarray:
    """Seconds a judged image took to read, prepare and classify: the mean of each.

    NaN if there is none.
    """
    seconds = [j.seconds for j in judgements if j.error is None]
    return np.mean(seconds, axis=0) if seconds else np.full(3, np.nan)


def write_json(path: str | Path, results: dict) -> None:
    """Write results as JSON, one image a line so that people can search it too."""
    head = json.dumps({k: v for k, v in results.items() if k != "images"}, indent=1)
    lines = ",\n  ".join(json.dumps(image) for image in results["images"])
    with replacing(path) as unfinished:
        Path(unfinished).write_text(
            f'{head[:-2]},\n "images": [\n  {lines}\n ]\n}}\n', encoding="utf-8"
        )


def _count_unlike(model: Model, images: list[dict]) -> int | None:
    if model.familiarity is None:
        return None
    return sum(image["unlike_training"] is True for image in images)


def _most_spots(model: Model) -> int | None:
    """How many spots of a frame the model can tell; None if it does not look at any."""
    search = model.preprocessing
    return search.most if isinstance(search, CandidateSearch) else None
