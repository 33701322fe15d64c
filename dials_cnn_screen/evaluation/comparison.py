"""Two screening runs side by side: of the same images, or of different ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.evaluation.differences import (
    Difference,
    compare_independent,
    compare_paired,
)
from dials_cnn_screen.evaluation.figures import LabelledResults
from dials_cnn_screen.evaluation.metrics import area_under_curve
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.confusion import (
    cohen_kappa,
    confusion_counts,
    hit_or_miss,
)
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label, count_labels
from dials_cnn_screen.screening.decision import KeptBecause
from dials_cnn_screen.screening.results import (
    FAILED,
    ImageResult,
    ScreeningResults,
)
from dials_cnn_screen.util.intervals import (
    as_percent,
    bootstrap_interval,
    wilson_interval,
)
from dials_cnn_screen.util.provenance import find_versions

# Digits of a score in JSON, as in cnn_screen.json.
_DIGITS = 4
# Among values of Label, that of an image that could not be classified.
_NO_CLASS = -1


@dataclass(frozen=True)
class Pair:
    """One image in both runs.

    Attributes:
        name: With as much of the path as tells images apart.
        first: Its result in the first run.
        second: That in the second.
        expert: Its label; None without.
    """

    name: ImageName
    first: ImageResult
    second: ImageResult
    expert: Label | None = None

    @property
    def difference(self) -> float:
        """P(Hit) + P(Maybe), first less second; NaN where one could not classify it."""
        return self.first.p_keep - self.second.p_keep

    @property
    def differs(self) -> bool:
        """Whether class, score or being kept is not the same in both."""
        kept = _keeps([self.first, self.second])
        same_class = self.first.label is self.second.label
        return not same_class or bool(kept[0] != kept[1]) or abs(self.difference) > 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs.

    Attributes:
        paths: Of their scores files.
        runs: Their results.
        pairs: Images that both have, those first that differ most in score, of equal
            ones those that differ in class or in being kept; those last that one could
            not classify. Empty for runs of different images.
        stills: The images that are given, whether of the pairs or not.
    """

    paths: tuple[str, str]
    runs: tuple[ScreeningResults, ScreeningResults]
    pairs: list[Pair]
    stills: Sequence[Still] = ()

    @property
    def labelled(self) -> list[Pair]:
        """The pairs that have a label."""
        return [pair for pair in self.pairs if pair.expert is not None]

    def rates(self) -> list[Difference]:
        """How many images are of each class, could not be classified and are kept."""
        if not self.pairs:
            first, second = (_mark(run.images) for run in self.runs)
            return [
                compare_independent(
                    title,
                    (int(first[title].sum()), int(second[title].sum())),
                    (len(first[title]), len(second[title])),
                )
                for title in first
            ]
        first, second = map(_mark, _sides(self.pairs))
        return [compare_paired(title, first[title], second[title]) for title in first]

    def against_expert(self) -> list[Difference]:
        """How often each run is right, by the labels; rates without images left out.

        A run is right about an image that is labelled Hit or Maybe if it keeps it, and
        about a Miss if it does not.
        """
        expert = np.array([pair.expert for pair in self.labelled], dtype=np.int64)
        hits, every = expert != Label.MISS, np.ones(len(expert), bool)
        sides = _sides(self.labelled)
        first, second = map(_keeps, sides)
        one, other = (_classes(images) == expert for images in sides)
        rows = (
            ("Hit or Maybe kept", hits, first, second),
            ("Miss rejected", ~hits, ~first, ~second),
            ("Correct", every, first == hits, second == hits),
            ("Correct, three classes", every, one, other),
        )
        return [
            compare_paired(title, right[chosen], other_right[chosen])
            for title, chosen, right, other_right in rows
            if chosen.any()
        ]

    def areas(self) -> dict[str, Any] | None:
        """Areas under the ROC curves; None unless hits and misses are labelled.

        The interval of their difference is the bootstrap's, of both by the same images.
        """
        labels = np.array([pair.expert for pair in self.labelled], dtype=np.int64)
        positive = labels != Label.MISS
        if not 0 < np.count_nonzero(positive) < len(positive):
            return None
        sides = zip(self.runs, _sides(self.labelled), strict=True)
        scores = [
            LabelledResults(labels, replace(run, images=images), None).scores
            for run, images in sides
        ]

        def areas(chosen: NDArray[np.int64]) -> list[float]:
            return [area_under_curve(s[chosen], positive[chosen]) for s in scores]

        def difference(chosen: NDArray[np.int64]) -> float:
            first, second = areas(chosen)
            return first - second

        first, second = areas(np.arange(len(labels)))
        interval = bootstrap_interval(difference, positive)
        return {
            "first": round(first, _DIGITS),
            "second": round(second, _DIGITS),
            "difference": round(first - second, _DIGITS),
            "difference_interval": [round(float(end), _DIGITS) for end in interval],
        }

    def agreement(self) -> dict[str, Any] | None:
        """The classes of the one against those of the other; None for different images.

        Of the images that both classify; rows of the counts are the first run's.
        """
        if not self.pairs:
            return None
        first, second = map(_classes, _sides(self.pairs))
        classified = (first != _NO_CLASS) & (second != _NO_CLASS)
        three = confusion_counts(first[classified], second[classified])
        return {
            "images": int(np.count_nonzero(classified)),
            "three_classes": _agree(three),
            "hit_or_miss": _agree(hit_or_miss(three)),
            "kept": self._kept(),
        }

    def as_json(self, parameters: str) -> dict[str, Any]:
        """All figures and images that both have, in the form of cnn_evaluate.json.

        parameters: those that the user changed, in PHIL form.
        """
        expert = count_labels(p.expert for p in self.labelled if p.expert is not None)
        return {
            "program": "dials.cnn_evaluate",
            "version": __version__,
            "versions": find_versions(),
            "parameters": parameters,
            "compared": "the same images" if self.pairs else "different images",
            "first": self._describe_run(0),
            "second": self._describe_run(1),
            "rates": [rate.as_json() for rate in self.rates()],
            "agreement": self.agreement(),
            "expert": {x.key: n for x, n in expert.items()} if self.labelled else None,
            "against_expert": [rate.as_json() for rate in self.against_expert()],
            "auc": self.areas(),
            "images": [_describe_pair(pair) for pair in self.pairs],
        }

    def _kept(self) -> dict[str, Any]:
        """Images that both, one or none of the two keep, with intervals in percent."""
        first, second = map(_keeps, _sides(self.pairs))
        kinds = {
            "both": first & second,
            "first_only": first & ~second,
            "second_only": ~first & second,
            "neither": ~first & ~second,
        }
        total = len(self.pairs)
        counts = {name: int(np.count_nonzero(kind)) for name, kind in kinds.items()}
        intervals = {
            name: as_percent(wilson_interval(n, total)) for name, n in counts.items()
        }
        return counts | {"interval_percent": intervals}

    def _describe_run(self, which: int) -> dict[str, Any]:
        """One of the two runs, 0 or 1."""
        run = self.runs[which]
        return {
            "scores": self.paths[which],
            "model": asdict(run.model),
            "decision": asdict(run.decision),
            "images": len(run.images),
            "in_one_run_only": len(run.images) - len(self.pairs),
            "hit_rates": [rate.as_json() for rate in run.hit_rates()],
        }


def _sides(pairs: Sequence[Pair]) -> tuple[list[ImageResult], list[ImageResult]]:
    """The results of the first run, and those of the second."""
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def _classes(images: Sequence[ImageResult]) -> NDArray[np.int64]:
    """Values of Label, (n,); _NO_CLASS where an image could not be classified."""
    labels = [_NO_CLASS if im.label is None else im.label for im in images]
    return np.array(labels, dtype=np.int64)


def _keeps(images: Sequence[ImageResult]) -> NDArray[np.bool_]:
    """Which images are kept, (n,), those for an audit left out: chance keeps them."""
    because = [image.kept_because for image in images]
    return np.array([b not in (None, KeptBecause.AUDIT) for b in because], bool)


def _mark(images: Sequence[ImageResult]) -> dict[str, NDArray[np.bool_]]:
    """Which images are of each class, could not be classified and are kept, (n,)."""
    classes = _classes(images)
    return {
        **{label.title: classes == label for label in Label},
        FAILED: classes == _NO_CLASS,
        "Kept": _keeps(images),
    }


def _agree(counts: NDArray[np.int64]) -> dict[str, Any]:
    """How often two runs give one class, by counts (k, k); kappa is None if unknown."""
    same, total, kappa = int(np.trace(counts)), int(counts.sum()), cohen_kappa(counts)
    return {
        "counts": counts.tolist(),
        "same": same,
        "interval_percent": as_percent(wilson_interval(same, total)),
        "kappa": None if math.isnan(kappa) else round(kappa, _DIGITS),
    }


def _describe_pair(pair: Pair) -> dict[str, Any]:
    """What cnn_evaluate.json says of an image."""
    known = not math.isnan(pair.difference)
    return {
        "file": pair.name.path,
        "frame": pair.name.number,
        "expert": None if pair.expert is None else pair.expert.title,
        "difference": round(pair.difference, _DIGITS) if known else None,
        "first": _describe_result(pair.first),
        "second": _describe_result(pair.second),
    }


def _describe_result(image: ImageResult) -> dict[str, Any]:
    """What is said of an image by one run."""
    prediction = image.prediction
    return {
        "class": None if image.label is None else image.label.title,
        "p_keep": None if prediction is None else round(prediction.p_keep, _DIGITS),
        "kept": bool(_keeps([image])[0]),
        "n_spots": prediction and prediction.n_spots,
        "error": image.error,
        "path": image.name.path,
    }
