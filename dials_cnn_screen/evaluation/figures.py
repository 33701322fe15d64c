"""How well a network and a cut in spots agree with an expert, with intervals.

Everywhere a rate stands as a percentage (names that end in percent, and success_rate,
equation 10) or, as sensitivity, specificity and auc, as a number from 0 to 1. Intervals
are of 95%: Wilson's for rates, Newcombe's for areas under ROC curves. Rows of the
confusion matrices are the expert's Hit or Maybe, and Miss; columns what is kept, and
what is not (Table 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import classify, keep_score
from dials_cnn_screen.screening.decision import Decision, keep
from dials_cnn_screen.util.intervals import (
    area_interval,
    bootstrap_interval,
    difference_interval,
    wilson_interval,
)


@dataclass(frozen=True, eq=False)
class Judged:
    """Images with an expert's labels, and what a network and spot finding say of them.

    labels: int (n,), Label. p: probabilities, float64 (n, 3) in the order of Label, NaN
    where an image could not be judged; None without a network. unlike: bool (n,),
    unlike the network's training. n_spots: int (n,); None without spot finding.
    """

    labels: np.ndarray
    p: np.ndarray | None
    unlike: np.ndarray
    n_spots: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positive(self) -> np.ndarray:
        """Which images the expert calls Hit or Maybe, bool (n,)."""
        return self.labels != Label.MISS

    @property
    def scores(self) -> np.ndarray:
        """P(Hit) + P(Maybe), float64 (n,); infinite where it is kept whatever it is."""
        scores = keep_score(self.p)
        return np.where(np.isnan(scores) | self.unlike, np.inf, scores)

    def kept(self, threshold: float) -> np.ndarray:
        """Which images the network keeps, bool (n,)."""
        return keep(keep_score(self.p), Decision(threshold), self.unlike)

    def part(self, chosen: np.ndarray) -> Judged:
        """The chosen of the images, by mask or index."""
        return replace(
            self,
            labels=self.labels[chosen],
            p=None if self.p is None else self.p[chosen],
            unlike=self.unlike[chosen],
            n_spots=None if self.n_spots is None else self.n_spots[chosen],
        )


def evaluate(
    judged: Judged, training: np.ndarray, threshold: float, min_spots: int | None
) -> dict:
    """All figures of cnn_evaluate.json, of the images outside the training part.

    training: bool (n,), the images on which cuts in spots are chosen. threshold: of the
    network, as in Decision. min_spots: cut that was given. Raises ValueError as
    check_parts does.
    """
    check_parts(judged.labels, training)
    test, train = judged.part(~training), judged.part(training)
    results = {
        "expert": count_classes(test.labels),
        "training": count_classes(train.labels) if len(train) else None,
        "cnn": None,
        "spotfinder": None,
        "matched": None,
    }
    if judged.p is not None:
        results["cnn"] = evaluate_cnn(test, threshold)
    if judged.n_spots is not None:
        results["spotfinder"] = evaluate_spots(test, train, threshold, min_spots)
    if judged.p is not None and judged.n_spots is not None:
        results["matched"] = match_specificity(test, threshold)
    return results


def check_parts(labels: np.ndarray, training: np.ndarray) -> None:
    """Raise ValueError without images to judge, or to choose a cut in spots on.

    labels: int (n,), Label. training: bool (n,), the images to choose a cut on, if any.
    """
    if training.all():
        raise ValueError("no labelled image is left to judge; lower training.fraction")
    if training.any() and not _has_both(labels[training] != Label.MISS):
        raise ValueError(
            f"the training part has {in_words(labels[training])}, and a cut is chosen "
            "on hits and misses; raise training.fraction"
        )


def in_words(labels: np.ndarray) -> str:
    """How many of labels, int (n,), are of each class."""
    counts = count_classes(labels)
    return ", ".join(f"{counts[x.name.lower()]} {x.title}" for x in Label)


def count_classes(labels: np.ndarray) -> dict[str, int]:
    """How many images the expert calls Hit, Maybe and Miss."""
    counts = np.bincount(labels, minlength=len(Label)).tolist()
    return {label.name.lower(): n for label, n in zip(Label, counts, strict=True)}


def evaluate_cnn(test: Judged, threshold: float) -> dict:
    """Confusion, success rates, ROC and calibration of the network."""
    judged = ~np.isnan(test.p).any(axis=1)
    classes = [classify(row) for row in test.p[judged]]
    of_three = confusion_counts(test.labels[judged], classes)
    return {
        "threshold": threshold,
        "not_judged": int(np.count_nonzero(~judged)),
        "unlike_training": int(np.count_nonzero(test.unlike)),
        **_agreement(test.positive, test.kept(threshold)),
        "three_classes": {
            **_confusion(of_three),
            # An image that could not be judged is none that was classified rightly.
            **_success(int(np.trace(of_three)), len(test)),
        },
        **_ranking(test.scores, test.positive),
        "calibration": _calibration(test.part(judged & ~test.unlike)),
    }


def evaluate_spots(
    test: Judged, train: Judged, threshold: float, min_spots: int | None
) -> dict:
    """The same of spot counts: at the given cut, and at cuts chosen on another part."""

    def at(cut: int | None) -> dict | None:
        if cut is None:
            return None
        return {"min_spots": cut, **_agreement(test.positive, test.n_spots >= cut)}

    best = same_specificity = None
    if len(train):
        best = best_cut(train.n_spots, train.positive)
        if train.p is not None:
            rejected = ~train.kept(threshold)[~train.positive]
            same_specificity = cut_at_specificity(
                rejected.mean(), train.n_spots, train.positive
            )
    return {
        "min_spots": min_spots,
        **(at(min_spots) or dict.fromkeys(_agreement(test.positive, test.positive))),
        **_ranking(test.n_spots, test.positive),
        "at_best_cut": at(best),
        "at_cnn_specificity": at(same_specificity),
        "histogram": _histogram(test, min_spots or best),
    }


def match_specificity(test: Judged, threshold: float) -> dict:
    """The sensitivity of both at the specificity that the network has.

    Intervals of the sensitivities are the bootstrap's, as the cut is uncertain too, and
    no narrower than Wilson's: with hardly any image wrong the bootstrap is too sure.
    """
    kept, positive = test.kept(threshold), test.positive
    names = ("specificity", "cnn_sensitivity", "spotfinder_sensitivity", "difference")
    if not _has_both(positive):
        return dict.fromkeys(names) | {f"{name}_interval": None for name in names}

    def sensitivities(chosen: np.ndarray) -> list[float]:
        specificity = float(np.mean(~kept[chosen][~positive[chosen]]))
        return [
            sensitivity_at(specificity, scores[chosen], positive[chosen])
            for scores in (test.scores, test.n_spots)
        ]

    rejected, n_misses = np.count_nonzero(~kept & ~positive), np.sum(~positive)
    both = sensitivities(np.arange(len(test)))
    intervals = [
        _no_narrower(interval, rate, np.count_nonzero(positive))
        for interval, rate in zip(
            bootstrap_interval(sensitivities, positive).T, both, strict=True
        )
    ]
    values = (rejected / n_misses, *both, both[0] - both[1])
    difference = difference_interval(both[0], intervals[0], both[1], intervals[1])
    intervals = (wilson_interval(rejected, n_misses), *intervals, difference)
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


def _agreement(positive: np.ndarray, kept: np.ndarray) -> dict:
    """Confusion matrix and success rate of Hit or Maybe against Miss."""
    counts = np.array(
        [
            [np.count_nonzero(row & c) for c in (kept, ~kept)]
            for row in (positive, ~positive)
        ]
    )
    return {**_confusion(counts), **_success(int(np.trace(counts)), len(positive))}


def _confusion(counts: np.ndarray) -> dict:
    intervals = [[_wilson(n, sum(row)) for n in row] for row in counts.tolist()]
    return {
        "confusion_counts": counts.tolist(),
        "confusion_percent": [
            [_round(x, 1) for x in row] for row in row_percent(counts)
        ],
        "confusion_interval_percent": intervals,
    }


def _success(right: int, total: int) -> dict:
    return {
        "success_rate": _round(100 * right / total, 1),
        "success_rate_interval": _wilson(right, total),
    }


def _wilson(count: int, total: int) -> list[float]:
    return [round(100 * x, 1) for x in wilson_interval(count, total)]


def _ranking(scores: np.ndarray, positive: np.ndarray) -> dict:
    """ROC curve and the area under it, with its interval."""
    if not _has_both(positive):
        return {"auc": None, "auc_interval": None, "roc": None}
    area = area_under_curve(scores, positive)
    n_positive = np.count_nonzero(positive)
    interval = area_interval(area, n_positive, len(positive) - n_positive)
    wrong, right = _corners(*roc_curve(scores, positive))
    return {
        "auc": _round(area, 3),
        "auc_interval": [_round(x, 3) for x in interval],
        "roc": {
            "false_positive_rate": wrong.round(5).tolist(),
            "true_positive_rate": right.round(5).tolist(),
        },
    }


def _corners(wrong: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ROC curve without the points that lie on a straight line."""
    along, up = np.diff(wrong), np.diff(right)
    bends = np.abs(along[:-1] * up[1:] - along[1:] * up[:-1]) > 1e-12
    chosen = np.concatenate([[True], bends, [True]])
    return wrong[chosen], right[chosen]


def _calibration(judged: Judged) -> dict:
    """Whether images are Hit or Maybe as often as their probability says."""
    p, positive = keep_score(judged.p), judged.positive
    return {
        "images": len(judged),
        "expected_calibration_error": _round(calibration_error(p, positive), 4),
        "bins": [
            {
                "low": round(b.low, 4),
                "high": round(b.high, 4),
                "images": b.images,
                "mean_p": round(b.mean_p, 4),
                "hit_or_maybe_percent": round(100 * b.positive / b.images, 1),
                "hit_or_maybe_interval": _wilson(b.positive, b.images),
            }
            for b in reliability(p, positive)
        ],
    }


def _histogram(test: Judged, cut: int | None) -> dict:
    """Images by number of spots and expert's class, as in Fig. 7.

    spots_from: where each bin begins, even on a logarithmic scale; one does at the cut.
    """
    most = max(int(test.n_spots.max()), 1)
    even = np.round(10 ** np.arange(0, np.log10(most), 0.1)).astype(int)
    if cut:
        # None so near to the cut that its bin would look empty for being narrow.
        even = np.append(even[(even < cut / 1.12) | (even > cut * 1.12)], cut)
    edges = np.unique(np.append(even, 0))
    place = np.searchsorted(edges, test.n_spots, side="right") - 1
    return {"spots_from": edges.tolist(), "cut": cut} | {
        label.name.lower(): np.bincount(
            place[test.labels == label], minlength=len(edges)
        ).tolist()
        for label in Label
    }


def _has_both(positive: np.ndarray) -> bool:
    return 0 < np.count_nonzero(positive) < len(positive)


def _round(x: float, digits: int) -> float | None:
    """Rounded; None for what is not known, as JSON has no NaN."""
    return None if np.isnan(x) else round(float(x), digits)
