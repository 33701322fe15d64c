"""How well a model and a cut in spots agree with an expert, with intervals.

Rates are percentages where a name ends in percent, and in success_rate (equation 10);
specificity, sensitivity and auc are numbers from 0 to 1. Intervals are of 95%: Wilson's
for rates, Newcombe's for areas under ROC curves. Rows of the confusion matrices are the
expert's Hit or Maybe, and Miss; columns are what is kept, and what is rejected
(Table 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import (
    area_under_curve,
    best_cut,
    calibration_error,
    cut_at_specificity,
    reliability,
    roc_curve,
    sensitivity_at,
)
from dials_cnn_screen.labels.confusion import confusion_counts, row_percent
from dials_cnn_screen.labels.label import Label, count_labels, format_counts
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, ScreeningResults
from dials_cnn_screen.util.intervals import (
    area_interval,
    bootstrap_interval,
    difference_interval,
    wilson_interval,
)


@dataclass(frozen=True, eq=False)
class LabelledResults:
    """Images with an expert's labels, and what a model and spot finding make of them.

    Attributes:
        labels: int64 (n,), values of Label.
        screening: Of the same images in the same order, by the decision that is
            evaluated; None without a model.
        n_spots: int64 (n,), number of spots found; None without spot finding.
    """

    labels: NDArray[np.int64]
    screening: ScreeningResults | None
    n_spots: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> list[ImageResult]:
        """The model's results; empty without a model."""
        return [] if self.screening is None else self.screening.images

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which images the expert calls Hit or Maybe, (n,)."""
        return self.labels != Label.MISS

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which images the model keeps, (n,)."""
        return np.array([image.kept for image in self.images], bool)

    @property
    def ranked(self) -> NDArray[np.bool_]:
        """Which images are kept or rejected by their P(Hit) + P(Maybe), (n,).

        The others could not be classified or are out of distribution: they are kept.
        """
        return np.array(
            [
                image.prediction is not None and not image.out_of_distribution
                for image in self.images
            ],
            bool,
        )

    @property
    def scores(self) -> NDArray[np.float64]:
        """P(Hit) + P(Maybe), (n,); infinite where an image is kept whatever it is."""
        p_keep = np.array([image.p_keep for image in self.images], float)
        return np.where(self.ranked, p_keep, np.inf)

    def select(self, chosen: NDArray[np.bool_]) -> LabelledResults:
        """Those of the chosen images, (n,)."""
        screening = self.screening
        if screening is not None:
            images = [screening.images[i] for i in np.flatnonzero(chosen)]
            screening = replace(screening, images=images)
        n_spots = None if self.n_spots is None else self.n_spots[chosen]
        return LabelledResults(self.labels[chosen], screening, n_spots)


def evaluate(
    labelled: LabelledResults, training: NDArray[np.bool_], min_spots: int | None
) -> dict[str, Any]:
    """All figures of cnn_evaluate.json, of the images outside the training split.

    Args:
        labelled: The images.
        training: (n,), which of them cuts in spots are chosen on.
        min_spots: The cut in spots that was given, if any.

    Raises:
        ValueError: As check_training_split does.
    """
    check_training_split(labelled.labels, training)
    test, train = labelled.select(~training), labelled.select(training)
    results: dict[str, Any] = {
        "expert": _counts(test.labels),
        "training": _counts(train.labels) if len(train) else None,
        "cnn": None,
        "spotfinder": None,
        "matched": None,
    }
    if test.screening is not None:
        results["cnn"] = evaluate_cnn(test, test.screening.decision)
    if test.n_spots is not None:
        results["spotfinder"] = evaluate_spots(test, train, min_spots)
    if test.screening is not None and test.n_spots is not None:
        results["matched"] = match_specificity(test)
    return results


def check_training_split(
    labels: NDArray[np.int64], training: NDArray[np.bool_]
) -> None:
    """Check that there are images to evaluate on, and to choose a cut in spots on.

    Args:
        labels: (n,), values of Label.
        training: (n,), the images to choose a cut on, if any.

    Raises:
        ValueError: All images are for training, or those are of one kind.
    """
    if training.all():
        raise ValueError(
            "no labelled image is left to evaluate on; lower training.fraction"
        )
    if training.any() and not _has_both(labels[training] != Label.MISS):
        raise ValueError(
            f"the training split has {format_counts(count_labels(labels[training]))}, "
            "and a cut in spots is chosen on hits and misses; raise training.fraction, "
            "or label more images for training"
        )


def evaluate_cnn(test: LabelledResults, decision: Decision) -> dict[str, Any]:
    """Confusion matrices, success rates, ROC curve and calibration of the model.

    decision: that of the results.
    """
    classified = np.array([image.label is not None for image in test.images], bool)
    predicted = [image.label for image in test.images if image.label is not None]
    of_three = confusion_counts(test.labels[classified], predicted)
    return {
        "threshold": decision.threshold,
        "failed": int(np.count_nonzero(~classified)),
        "out_of_distribution": sum(image.out_of_distribution for image in test.images),
        **_agreement(test.positive, test.kept),
        "three_classes": {
            **_confusion(of_three),
            # An image that could not be classified is not classified correctly.
            **_success(int(np.trace(of_three)), len(test)),
        },
        **_ranking(test.scores, test.positive),
        "calibration": _calibration(
            test.scores[test.ranked], test.positive[test.ranked]
        ),
    }


def evaluate_spots(
    test: LabelledResults, train: LabelledResults, min_spots: int | None
) -> dict[str, Any]:
    """The same of spot counts: at the given cut, and at cuts chosen on train."""
    n_spots, train_spots = np.asarray(test.n_spots), np.asarray(train.n_spots)

    def at(cut: int | None) -> dict[str, Any] | None:
        if cut is None:
            return None
        return {"min_spots": cut, **_agreement(test.positive, n_spots >= cut)}

    best = same_specificity = None
    if len(train):
        best = best_cut(train_spots, train.positive)
        if train.screening is not None:
            rejected = ~train.kept[~train.positive]
            same_specificity = cut_at_specificity(
                float(rejected.mean()), train_spots, train.positive
            )
    return {
        "min_spots": min_spots,
        **(at(min_spots) or dict.fromkeys(_agreement(test.positive, test.positive))),
        **_ranking(n_spots, test.positive),
        "at_best_cut": at(best),
        "at_cnn_specificity": at(same_specificity),
        "histogram": _histogram(n_spots, test.labels, min_spots or best),
    }


def match_specificity(test: LabelledResults) -> dict[str, Any]:
    """The sensitivity of model and spot counts at the specificity of the model.

    Intervals of the sensitivities are the bootstrap's, as the cut is uncertain too, and
    no narrower than Wilson's: with hardly any image wrong the bootstrap is too sure.
    """
    kept, positive = test.kept, test.positive
    names = ("specificity", "cnn_sensitivity", "spotfinder_sensitivity", "difference")
    if not _has_both(positive):
        return dict.fromkeys(names) | {f"{name}_interval": None for name in names}
    both_scores = test.scores, np.asarray(test.n_spots)

    def sensitivities(chosen: NDArray[np.int64]) -> list[float]:
        specificity = float(np.mean(~kept[chosen][~positive[chosen]]))
        return [
            sensitivity_at(specificity, scores[chosen], positive[chosen])
            for scores in both_scores
        ]

    rejected, n_misses = (
        np.count_nonzero(~kept & ~positive),
        np.count_nonzero(~positive),
    )
    both = sensitivities(np.arange(len(test)))
    intervals = [
        _no_narrower(interval, rate, np.count_nonzero(positive))
        for interval, rate in zip(
            bootstrap_interval(sensitivities, positive).T, both, strict=True
        )
    ]
    values: list[float] = [rejected / n_misses, *both, both[0] - both[1]]
    difference = difference_interval(both[0], intervals[0], both[1], intervals[1])
    intervals = [wilson_interval(rejected, n_misses), *intervals, difference]
    return {name: _round(x, 4) for name, x in zip(names, values, strict=True)} | {
        f"{name}_interval": [_round(x, 4) for x in interval]
        for name, interval in zip(names, intervals, strict=True)
    }


def _no_narrower(
    interval: Sequence[float], rate: float, total: int
) -> tuple[float, float]:
    """The interval, widened to Wilson's of the rate where that is wider."""
    low, high = wilson_interval(rate * total, total)
    return min(low, interval[0]), max(high, interval[1])


def _counts(labels: NDArray[np.int64]) -> dict[str, int]:
    """Number of images of each class, for JSON."""
    return {label.key: n for label, n in count_labels(labels).items()}


def _agreement(positive: NDArray[np.bool_], kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Confusion matrix and success rate of Hit or Maybe against Miss."""
    counts = np.array(
        [
            [np.count_nonzero(row & c) for c in (kept, ~kept)]
            for row in (positive, ~positive)
        ]
    )
    return {**_confusion(counts), **_success(int(np.trace(counts)), len(positive))}


def _confusion(counts: NDArray[np.int64]) -> dict[str, Any]:
    intervals = [[_wilson(n, sum(row)) for n in row] for row in counts.tolist()]
    return {
        "confusion_counts": counts.tolist(),
        "confusion_percent": [
            [_round(x, 1) for x in row] for row in row_percent(counts)
        ],
        "confusion_interval_percent": intervals,
    }


def _success(correct: int, total: int) -> dict[str, Any]:
    return {
        "success_rate": _round(100 * correct / total, 1),
        "success_rate_interval": _wilson(correct, total),
    }


def _wilson(count: int, total: int) -> list[float]:
    return [round(100 * x, 1) for x in wilson_interval(count, total)]


def _ranking(scores: NDArray, positive: NDArray[np.bool_]) -> dict[str, Any]:
    """ROC curve and the area under it, with its interval."""
    if not _has_both(positive):
        return {"auc": None, "auc_interval": None, "roc": None}
    area = area_under_curve(scores, positive)
    n_positive = np.count_nonzero(positive)
    interval = area_interval(area, n_positive, len(positive) - n_positive)
    false_rate, true_rate = _corners(*roc_curve(scores, positive))
    return {
        "auc": _round(area, 3),
        "auc_interval": [_round(x, 3) for x in interval],
        "roc": {
            "false_positive_rate": false_rate.round(5).tolist(),
            "true_positive_rate": true_rate.round(5).tolist(),
        },
    }


def _corners(
    false_rate: NDArray[np.float64], true_rate: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A ROC curve without the points that lie on a straight line."""
    along, up = np.diff(false_rate), np.diff(true_rate)
    bends = np.abs(along[:-1] * up[1:] - along[1:] * up[:-1]) > 1e-12
    chosen = np.concatenate([[True], bends, [True]])
    return false_rate[chosen], true_rate[chosen]


def _calibration(p: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[str, Any]:
    """Whether images are Hit or Maybe as often as P(Hit) + P(Maybe), p, says."""
    return {
        "images": len(p),
        "expected_calibration_error": _round(calibration_error(p, positive), 4),
        "bins": [
            {
                "low": round(b.low, 4),
                "high": round(b.high, 4),
                "images": b.images,
                "hit_or_maybe": b.positive,
                "mean_p": round(b.mean_p, 4),
                "hit_or_maybe_percent": round(100 * b.positive / b.images, 1),
                "hit_or_maybe_interval": _wilson(b.positive, b.images),
            }
            for b in reliability(p, positive)
        ],
    }


def _histogram(
    n_spots: NDArray[np.int64], labels: NDArray[np.int64], cut: int | None
) -> dict[str, Any]:
    """Images by number of spots and expert's class, as in Fig. 7.

    spots_from: where each bin begins, even on a logarithmic scale; one does at the cut.
    """
    most = max(int(n_spots.max()), 1)
    even = np.round(10 ** np.arange(0, np.log10(most), 0.1)).astype(int)
    if cut:
        # None so near to the cut that its bin would look empty for being narrow.
        even = np.append(even[(even < cut / 1.12) | (even > cut * 1.12)], cut)
    edges = np.unique(np.append(even, 0))
    place = np.searchsorted(edges, n_spots, side="right") - 1
    return {"spots_from": edges.tolist(), "cut": cut} | {
        label.key: np.bincount(place[labels == label], minlength=len(edges)).tolist()
        for label in Label
    }


def _has_both(positive: NDArray[np.bool_]) -> bool:
    return bool(0 < np.count_nonzero(positive) < len(positive))


def _round(x: float, digits: int) -> float | None:
    """Rounded; None for what is not known, as JSON has no NaN."""
    return None if np.isnan(x) else round(float(x), digits)
