"""cnn_evaluate.html: one page, self-contained, on what an evaluation came to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.results import Evaluation
from dials_cnn_screen.evaluation.tables import list_rules, make_tables
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.outputs.gallery import Picture, make_picture, name_failures
from dials_cnn_screen.outputs.page import COLOURS, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.util.intervals import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger("dials.cnn_evaluate.report")

_CNN, _SPOTS = "#2166ac", "#b35806"
# Of each kind of mistake, the worst.
_PICTURES = 9


def write_report(
    path: str | Path, evaluation: Evaluation, results: dict[str, Any], citation: str
) -> None:
    """Write the report of an evaluation; results: in the form of cnn_evaluate.json."""
    screening = evaluation.screening
    failed = []
    if screening is not None:
        failed = name_failures(screening.images, evaluation.images.display_names())
    write_page(
        path,
        "cnn_evaluate.html",
        results=results,
        n_images=sum(results["expert"].values()),
        tiles=[
            {"title": title, "colour": _colour(rule, results), "rule": rule}
            for title, rule in list_rules(results)
        ],
        tables=make_tables(results),
        figures=[
            (caption, svg_figure(draw, results)) for caption, draw in _figures(results)
        ],
        failed=failed,
        galleries=_galleries(evaluation),
        has_images=evaluation.images.stills is not None,
        edge=EDGE,
        citation=citation,
    )


def _figures(
    results: dict[str, Any],
) -> list[tuple[str, Callable[[Axes, dict[str, Any]], None]]]:
    """Captions and drawings of what there is."""
    cnn, spots = results["cnn"], results["spotfinder"]
    has_curve = any(found is not None and found["roc"] for found in (cnn, spots))
    figures = [
        (has_curve, "ROC curves; dots: the rules above", _draw_roc),
        (
            cnn is not None and cnn["calibration"]["bins"],
            "Reliability: how often images are Hit or Maybe, by the CNN's probability",
            _draw_reliability,
        ),
        (
            spots is not None,
            "Images by number of spots and expert's class",
            _draw_spots,
        ),
        (
            any(list_rules(results)),
            "Hits kept and misses rejected by each rule",
            _draw_rates,
        ),
    ]
    return [(caption, draw) for is_there, caption, draw in figures if is_there]


@dataclass(frozen=True, eq=False)
class _Rule:
    """The rule whose mistakes are shown.

    Attributes:
        title: Who decides, and how.
        rejected: What is said of an image that it does not keep.
        scores: (n,), by which images are kept.
        kept: bool (n,), which are.
        known: bool (n,), which have a score.
    """

    title: str
    rejected: str
    scores: NDArray
    kept: NDArray[np.bool_]
    known: NDArray[np.bool_]


def _rule_shown(evaluation: Evaluation) -> _Rule | None:
    """The model's, else a cut in spots that was given."""
    screening, spots = evaluation.screening, evaluation.spots
    if screening is not None:
        scores = np.array([image.p_keep for image in screening.images])
        threshold = screening.decision.threshold
        # Only at the paper's threshold is what is rejected what is called Miss.
        rejected = "called Miss" if threshold == PAPER_THRESHOLD else "rejected"
        return _Rule(
            f"the CNN at a threshold of {threshold:g}",
            rejected,
            scores,
            np.array(screening.kept),
            ~np.isnan(scores),
        )
    if spots is not None and spots.min_spots is not None:
        title = f"a cut at {_spots(spots.min_spots)}"
        kept = spots.n_spots >= spots.min_spots
        known = np.ones(len(kept), bool)
        return _Rule(title, "called Miss", spots.n_spots, kept, known)
    return None


def _galleries(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Pictures of what was classified wrongly, the worst mistakes first."""
    rule = _rule_shown(evaluation)
    if evaluation.images.stills is None or rule is None:
        return []
    positive = evaluation.images.labels != Label.MISS
    tested = rule.known & ~evaluation.images.training
    lost = np.flatnonzero(tested & positive & ~rule.kept)
    false = np.flatnonzero(tested & ~positive & rule.kept)
    mistakes = {
        f"Lost hits (labelled Hit or Maybe, {rule.rejected})": sorted(
            lost, key=lambda i: rule.scores[i]
        ),
        "False hits (labelled Miss, kept)": sorted(
            false, key=lambda i: -rule.scores[i]
        ),
    }
    return [
        {
            "title": f"{title}: {len(chosen)} by {rule.title}",
            "pictures": _pictures(evaluation, chosen[:_PICTURES]),
        }
        for title, chosen in mistakes.items()
        if chosen
    ]


def _pictures(evaluation: Evaluation, chosen: list[int]) -> list[Picture]:
    """Those of the chosen images that can be read."""
    names, stills = evaluation.images.display_names(), evaluation.images.stills or []
    pictures, source = [], Source()
    for i in chosen:
        try:
            frame = source.read(stills[i])
            pictures.append(_picture(evaluation, frame, i, names[i]))
        except Exception as error:  # whatever dxtbx or a file format may raise
            logger.warning("No picture of %s in the report: %s", names[i], error)
    return pictures


def _picture(evaluation: Evaluation, frame: Frame, i: int, name: ImageName) -> Picture:
    """One of the images, with what the model and spot finding make of it."""
    images, screening, spots = evaluation.images, evaluation.screening, evaluation.spots
    expert = Label(images.labels[i])
    n_spots = "" if spots is None else _spots(int(spots.n_spots[i]))
    if screening is None:
        nothing = ImageResult(name, None, None, None)
        picture = make_picture(nothing, name, frame, None, expert)
        return replace(picture, title=n_spots)
    note = n_spots and f"{n_spots} by spot finding"
    result, max_spots = screening.images[i], screening.model.max_spots
    return make_picture(result, name, frame, max_spots, expert, note)


def _spots(n: int) -> str:
    return f"{n} spot{'s' * (n != 1)}"


def _draw_roc(axes: Axes, results: dict[str, Any]) -> None:
    """ROC curves, with the 95% interval of the hits kept, and the rules in use."""
    n_hits = results["expert"]["hit"] + results["expert"]["maybe"]
    curves = (("CNN", "cnn", _CNN), ("number of spots", "spotfinder", _SPOTS))
    for name, key, colour in curves:
        if results[key] is None or results[key]["roc"] is None:
            continue
        misses = 100 * np.array(results[key]["roc"]["false_positive_rate"])
        hits = np.array(results[key]["roc"]["true_positive_rate"])
        intervals = [wilson_interval(round(x * n_hits), n_hits) for x in hits]
        low, high = 100 * np.transpose(intervals)
        axes.fill_between(misses, low, high, color=colour, alpha=0.15, lw=0)
        label = f"{name}, area {results[key]['auc']:.3f}"
        axes.plot(misses, 100 * hits, color=colour, label=label)
    for _, rule in list_rules(results):
        _draw_point(axes, rule, _colour(rule, results))
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("misses kept, %")
    axes.set_ylabel("hits kept, %")
    axes.legend(fontsize="small", loc="lower right")


def _colour(rule: dict[str, Any], results: dict[str, Any]) -> str:
    return _CNN if rule is results["cnn"] else _SPOTS


def _draw_point(axes: Axes, rule: dict[str, Any], colour: str) -> None:
    """One rule on the ROC plot: a cross of its two intervals."""
    (hits, _), (misses, _) = rule["confusion_percent"]
    (hits_interval, _), (misses_interval, _) = rule["confusion_interval_percent"]
    if hits is None or misses is None:
        return
    axes.errorbar(
        [misses],
        [hits],
        xerr=_bars([misses], [misses_interval]),
        yerr=_bars([hits], [hits_interval]),
        fmt="o",
        ms=4,
        color=colour,
        mec="black",
    )


def _draw_reliability(axes: Axes, results: dict[str, Any]) -> None:
    """Fraction of Hit or Maybe in each bin of probability, with its 95% interval."""
    bins = results["cnn"]["calibration"]["bins"]
    mean = [100 * b["mean_p"] for b in bins]
    rates = [b["hit_or_maybe_percent"] for b in bins]
    bars = _bars(rates, [b["hit_or_maybe_interval"] for b in bins])
    axes.plot([0, 100], [0, 100], color="#999999", lw=1, label="perfectly calibrated")
    axes.errorbar(mean, rates, yerr=bars, fmt="o", ms=4, color=_CNN, label="CNN")
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("mean P(Hit) + P(Maybe), %")
    axes.set_ylabel("Hit or Maybe, %")
    axes.legend(fontsize="small", loc="upper left")


def _draw_spots(axes: Axes, results: dict[str, Any]) -> None:
    """Histogram of spots per image by the expert's class, and the cut, as Fig. 7."""
    histogram = results["spotfinder"]["histogram"]
    edges = histogram["spots_from"]
    bottom = np.zeros(len(edges))
    for label in Label:
        heights = np.array(histogram[label.key])
        title = f"{label.title}: {heights.sum()}"
        places = np.arange(len(edges))
        colour = COLOURS[label.title]
        axes.bar(places, heights, 0.9, bottom, color=colour, label=title)
        bottom += heights
    if histogram["cut"] is not None:
        place = edges.index(histogram["cut"]) - 0.5
        title = f"cut at {histogram['cut']}"
        axes.axvline(place, color="black", lw=1, label=title)
    shown = range(0, len(edges), 3)
    axes.set_xticks(shown, [str(edges[i]) for i in shown])
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("number of spots, from")
    axes.set_ylabel("images")
    axes.legend(fontsize="small")


def _draw_rates(axes: Axes, results: dict[str, Any]) -> None:
    """Hits kept and misses rejected by each rule, with their 95% intervals."""
    ways = list(list_rules(results))
    kinds = ((0, "Hit or Maybe kept", COLOURS["Hit"]), (1, "Miss rejected", "#666666"))
    for row, name, colour in kinds:
        rates = [rule["confusion_percent"][row][row] for _, rule in ways]
        intervals = [rule["confusion_interval_percent"][row][row] for _, rule in ways]
        heights = np.arange(len(ways))[::-1] + 0.12 - 0.24 * row
        known = [i for i, rate in enumerate(rates) if rate is not None]
        if not known:
            continue
        values = [rates[i] for i in known]
        axes.errorbar(
            values,
            heights[known],
            xerr=_bars(values, [intervals[i] for i in known]),
            fmt="o",
            color=colour,
            capsize=3,
            label=name,
        )
    titles = [title.replace(", ", ",\n", 1) for title, _ in ways]
    axes.set_yticks(np.arange(len(ways))[::-1], titles, fontsize="small")
    axes.set_ylim(-0.6, len(ways) - 0.4)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("%")
    axes.legend(fontsize="small")


def _bars(values: list[float], intervals: list[list[float]]) -> NDArray[np.float64]:
    """Lengths of error bars, (2, n): down and up; none below 0 by rounding."""
    low, high = np.transpose(intervals)
    return np.maximum([values - low, high - values], 0)
