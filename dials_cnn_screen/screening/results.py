"""The result for each image, those of a run, and cnn_screen.json."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.image_name import ImageName, short_names
from dials_cnn_screen.labels.label import Label, count_labels
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction, make_prediction
from dials_cnn_screen.screening.decision import (
    Decision,
    KeptBecause,
    decision_from_json,
    why_kept,
)
from dials_cnn_screen.screening.hit_rates import HitRate, name_sources
from dials_cnn_screen.screening.recurring import Recurring
from dials_cnn_screen.screening.shares import RunEstimate, estimate_run
from dials_cnn_screen.util.files import replacing

FAILED = "Could not be classified"
# Digits of probabilities in JSON; what an image is kept by is written as it is.
_DIGITS = 4


@dataclass(frozen=True, eq=False, slots=True)
class ImageResult:
    """What was found of one image; decide makes one.

    Attributes:
        name: The image.
        prediction: None where the image could not be classified.
        error: Why it could not; None where it could.
        kept_because: Why it is kept; None where it is not.
        seconds: Spent on reading, preparing and classifying; 0 where not known. On a
            GPU what is not reading is classifying.
        left_to_cpu: Whether it did not fit the kernels of the GPU that was used.
        d_min: Resolution by its spots, Angstrom; None where that is not known.
        rings: Spacings of its powder rings, Angstrom; None where that is not known.
    """

    name: ImageName
    prediction: Prediction | None
    error: str | None
    kept_because: KeptBecause | None
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    left_to_cpu: bool = False
    d_min: float | None = None
    rings: tuple[float, ...] | None = None

    @property
    def kept(self) -> bool:
        """Whether the image is kept."""
        return self.kept_because is not None

    @property
    def label(self) -> Label | None:
        """The predicted class; None where the image could not be classified."""
        return None if self.prediction is None else self.prediction.label

    @property
    def title(self) -> str:
        """The predicted class as people read it, or that there is none."""
        return FAILED if self.label is None else self.label.title

    @property
    def p_keep(self) -> float:
        """P(Hit) + P(Maybe); NaN where the image could not be classified."""
        return math.nan if self.prediction is None else self.prediction.p_keep

    @property
    def out_of_distribution(self) -> bool:
        """Whether the image is known to be."""
        return bool(self.prediction and self.prediction.out_of_distribution)


def decide(
    name: ImageName,
    prediction: Prediction | None,
    error: str | None,
    decision: Decision,
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> ImageResult:
    """The result for an image, kept or not by a decision.

    Raises ValueError where the decision has an eye, and the prediction no candidates.
    """
    if prediction is not None and decision.eye is not None:
        prediction = prediction.seen_by(decision.eye)
    kept_because = why_kept(name, prediction, decision)
    return ImageResult(name, prediction, error, kept_because, seconds)


def decide_again(result: ImageResult, decision: Decision) -> ImageResult:
    """The same result by another decision; raises as decide does."""
    again = decide(result.name, result.prediction, result.error, decision)
    return replace(result, prediction=again.prediction, kept_because=again.kept_because)


@dataclass(frozen=True)
class ModelSummary:
    """What results say of the model that made them.

    Attributes:
        name, sha256, architecture, trained_on: As in Model.
        max_spots: How many spots of an image it finds at most; None if it looks for
            none.
        shares: Of the classes where its probabilities hold, as in Calibration.
    """

    name: str
    sha256: str
    architecture: str = ""
    trained_on: str = ""
    max_spots: int | None = None
    shares: Sequence[float] | None = None

    @classmethod
    def of(cls, model: Model) -> ModelSummary:
        """That of a model."""
        return cls(
            model.name,
            model.sha256,
            model.architecture,
            model.trained_on,
            model.max_spots,
            model.calibration.shares,
        )


@dataclass(frozen=True)
class ScreeningResults:
    """The results of a run, in the order of its images.

    Attributes:
        model: That made them.
        decision: By which images are kept.
        images: One for each image.
        not_reached: How many images of the input are not among them, since the run was
            interrupted.
        recurring: Where spots recur, for each detector; empty where that was not
            sought, and in results that are read from a file.
    """

    model: ModelSummary
    decision: Decision
    images: list[ImageResult] = field(default_factory=list)
    not_reached: int = 0
    recurring: Sequence[Recurring] = ()

    @property
    def kept(self) -> list[bool]:
        """Which images are kept."""
        return [image.kept for image in self.images]

    @property
    def classified(self) -> list[ImageResult]:
        """Those that could be classified."""
        return [image for image in self.images if image.prediction is not None]

    def check_classified(self) -> None:
        """Raise ValueError where no image could be classified."""
        if not self.classified:
            raise ValueError(
                f"none of the {len(self.images)} images could be classified; the "
                f"first, {self.display_names()[0]}: {self.images[0].error}"
            )

    @property
    def failed(self) -> list[ImageResult]:
        """Those that could not."""
        return [image for image in self.images if image.prediction is None]

    @property
    def audited(self) -> list[ImageResult]:
        """Those that are kept at random."""
        return [i for i in self.images if i.kept_because is KeptBecause.AUDIT]

    @property
    def out_of_distribution(self) -> list[ImageResult]:
        """Those out of the distribution of the model's training, the farthest first."""
        return sorted(
            (image for image in self.images if image.out_of_distribution),
            key=lambda image: -image.prediction.ood_score,  # type: ignore[union-attr, operator]
        )

    def summary(self) -> dict[str, int | None]:
        """Numbers of images: of each class, and what became of them."""
        counts = count_labels(
            image.label for image in self.images if image.label is not None
        )
        known = [p.prediction.out_of_distribution for p in self.images if p.prediction]
        unknown = bool(known) and all(flag is None for flag in known)
        return {
            "images": len(self.images),
            **{label.key: n for label, n in counts.items()},
            "failed": len(self.failed),
            "kept": sum(self.kept),
            "out_of_distribution": None if unknown else sum(map(bool, known)),
            "not_reached": self.not_reached,
        }

    @functools.cached_property
    def estimate(self) -> RunEstimate | None:
        """What is to be expected of the classified images, if that is known."""
        images = self.classified
        p = [i.prediction.probabilities for i in images if i.prediction is not None]
        return estimate_run(
            # Rounded as in the record, so that a resumed run says the same.
            np.round(p, _DIGITS),
            np.array([image.kept for image in images], bool),
            self.model.shares,
            self.decision.eye is not None,
        )

    def spots_of_hits(self) -> list[int]:
        """Numbers of spots of the images of class Hit, where the model counts them."""
        hits = [im.prediction for im in self.images if im.label is Label.HIT]
        return [p.n_spots for p in hits if p is not None and p.n_spots is not None]

    def hit_rates(self) -> list[HitRate]:
        """Those of the files, or folders of files of one image, in their order."""
        names = [image.name for image in self.images]
        rates: dict[str, HitRate] = {}
        sources = name_sources(names, self.display_names())
        for source, image in zip(sources, self.images, strict=True):
            rate = rates.setdefault(source, HitRate(source))
            rate.add(image.label, image.kept)
        return list(rates.values())

    def hit_rate(self) -> HitRate:
        """That of the whole run."""
        rate = HitRate("all")
        for image in self.images:
            rate.add(image.label, image.kept)
        return rate

    def display_names(self) -> list[ImageName]:
        """Names with as much of the path as tells the images apart."""
        return short_names([image.name for image in self.images])

    def mean_seconds(self) -> NDArray[np.float64]:
        """Seconds to read, prepare and classify an image: the mean of each.

        NaN where no image could be classified.
        """
        seconds = [image.seconds for image in self.classified]
        return np.mean(seconds, axis=0) if seconds else np.full(3, np.nan)

    def as_json(self) -> dict[str, Any]:
        """All results, in the form of cnn_screen.json.

        The entries of the images are made one after the other as they are asked for,
        since those of 100,000 would take 130 MB.
        """
        entries = zip(self.images, self.display_names(), strict=True)
        estimate = self.estimate
        return {
            "program": "dials.cnn_screen",
            "version": __version__,
            "model": asdict(self.model),
            "decision": asdict(self.decision),
            "summary": self.summary(),
            "estimated_shares": estimate and estimate.shares_by_key(),
            "estimated_loss": estimate and estimate.loss,
            "hit_rate": self.hit_rate().as_json(),
            "hit_rates": [rate.as_json() for rate in self.hit_rates()],
            "recurring": [each.as_json() for each in self.recurring],
            "images": (
                image_as_json(i, image, name) for i, (image, name) in enumerate(entries)
            ),
        }


def image_as_json(
    index: int, image: ImageResult, display_name: ImageName
) -> dict[str, Any]:
    """What cnn_screen.json says of one image."""
    prediction = image.prediction
    p: list[float | None] = [None] * len(Label)
    ood_score, spots = None, None
    if prediction is not None:
        p = [round(float(x), _DIGITS) for x in prediction.probabilities]
        ood_score, spots = prediction.ood_score, prediction.spots
    return {
        "index": index,
        "file": display_name.path,
        "frame": image.name.number,
        **{f"p_{label.key}": x for label, x in zip(Label, p, strict=True)},
        "class": None if image.label is None else image.label.title,
        "kept": image.kept,
        "error": image.error,
        "p_keep": prediction and prediction.p_keep,
        "kept_because": image.kept_because and image.kept_because.value,
        "out_of_distribution": prediction and prediction.out_of_distribution,
        "ood_score": ood_score,
        "n_spots": prediction and prediction.n_spots,
        "spots": None if spots is None else spots.tolist(),
        "candidates": prediction and _candidates_as_json(prediction.candidates),
        "d_min": None if image.d_min is None else round(image.d_min, 2),
        "rings": None if image.rings is None else [round(d, 2) for d in image.rings],
        "path": image.name.path,
    }


def _candidates_as_json(scores: CandidateScores | None) -> list | None:
    """Significance and P(spot) of each, and its slow and fast where known."""
    if scores is None:
        return None
    columns = [scores.significance.tolist(), scores.p_spot.tolist()]
    if scores.places is not None:
        columns += scores.places.T.tolist()
    return [list(row) for row in zip(*columns, strict=True)]


def _candidates_from_json(rows: list | None) -> CandidateScores | None:
    """The candidates of these rows; ValueError where they are none."""
    if rows is None:
        return None
    # Files of the first versions do not have the places.
    values = np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 4)
    if values.shape[1] not in (2, 4) or not np.isfinite(values).all():
        raise ValueError("its candidates are not rows of two or four numbers")
    places = values[:, 2:].astype(np.int32) if values.shape[1] == 4 else None
    return CandidateScores(values[:, 0], values[:, 1], places)


def image_from_json(entry: dict[str, Any]) -> ImageResult:
    """The result in an entry of cnn_screen.json, or in a line of cnn_screen.jsonl.

    Raises:
        ValueError, KeyError, TypeError: It is not one.
    """
    name = ImageName(str(entry["path"]), int(entry["frame"]))
    reading, preparing, classifying = map(float, entry.get("seconds", (0, 0, 0)))
    seconds = reading, preparing, classifying
    because = entry["kept_because"]
    kept_because = None if because is None else KeptBecause(because)
    p = [entry[f"p_{label.key}"] for label in Label]
    if not all(x is None or isinstance(x, float | int) for x in p):
        raise ValueError(f"the probabilities of {name} are {p}")
    if p == [None] * len(Label):
        return ImageResult(name, None, str(entry["error"]), kept_because, seconds)
    p_keep, ood_score = float(entry["p_keep"]), entry["ood_score"]
    # Files of the first versions have neither.
    d_min, rings = entry.get("d_min"), entry.get("rings")
    if not 0 <= p_keep <= 1:
        raise ValueError(f"P(Hit) + P(Maybe) of {name} is {p_keep}")
    spots = entry["spots"]
    prediction = make_prediction(
        p,
        None if spots is None else np.array(spots, dtype=np.int64).reshape(-1, 2),
        None if ood_score is None else float(ood_score),
        # Files of the first versions have none.
        candidates=_candidates_from_json(entry.get("candidates")),
    )
    # As they were before the probabilities were rounded.
    label = Label[str(entry["class"]).upper()]
    prediction = replace(prediction, p_keep=p_keep, label=label)
    return ImageResult(
        name,
        prediction,
        None,
        kept_because,
        seconds,
        d_min=None if d_min is None else float(d_min),
        rings=None if rings is None else tuple(map(float, rings)),
    )


def write_results(path: str | Path, results: ScreeningResults) -> None:
    """Write cnn_screen.json."""
    write_json(path, results.as_json())


def read_results(path: str | Path) -> ScreeningResults:
    """Read cnn_screen.json of an earlier run.

    Raises:
        ValueError: The file is not one.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        return ScreeningResults(
            ModelSummary(**content["model"]),
            decision_from_json(content["decision"]),
            [image_from_json(entry) for entry in content["images"]],
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        # Python's words on types tell a user nothing.
        why = "its entries have another form" if type(error) is TypeError else error
        raise ValueError(
            f"'{path}' is not a scores file of dials.cnn_screen ({why}); give the "
            "cnn_screen.json of an earlier run"
        ) from error


def write_json(path: str | Path, results: dict[str, Any]) -> None:
    """Write results as JSON, one image a line so that people can search it too."""
    head = json.dumps({k: v for k, v in results.items() if k != "images"}, indent=1)
    with replacing(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        file.write(f'{head[:-2]},\n "images": [\n')
        for i, image in enumerate(results["images"]):
            text = json.dumps(image, allow_nan=False)
            file.write(f",\n  {text}" if i else f"  {text}")
        file.write("\n ]\n}\n")
