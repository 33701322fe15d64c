"""cnn_evaluate.html: one page, self-contained, on what an evaluation came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.evaluation.input import Labelled, Scored
from dials_cnn_screen.evaluation.tables import rules, tables
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.outputs.page import COLOURS, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE, card
from dials_cnn_screen.util.intervals import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CNN, _SPOTS = "#2166ac", "#b35806"
# Of each kind of mistake, the worst.
_PICTURES = 9


def write_report(
    path: str | Path,
    results: dict,
    images: Labelled,
    scored: Scored | None,
    citation: str,
) -> None:
    """Write the report of results (in the form of cnn_evaluate.json)."""
    write_page(
        path,
        "cnn_evaluate.html",
        results=results,
        n_images=sum(results["expert"].values()),
        tiles=[
            {"title": title, "colour": _colour(rule, results), "rule": rule}
            for title, rule in rules(results)
        ],
        tables=tables(results),
        figures=[
            (caption, svg_figure(draw, results)) for caption, draw in _figures(results)
        ],
        failed=[image for image in results["images"] if image.get("error")],
        galleries=_galleries(results, images, scored),
        has_images=images.stills is not None,
        edge=EDGE,
        citation=citation,
    )


def _figures(results: dict) -> list[tuple]:
    """Captions and drawings of what there is."""
    cnn, spots = results["cnn"], results["spotfinder"]
    has_curve = any(found is not None and found["roc"] for found in (cnn, spots))
    figures = [
        (has_curve, "ROC: as the cut is lowered; dots: the cuts above", _draw_roc),
        (
            cnn is not None and cnn["calibration"]["bins"],
            "How often images are Hit or Maybe, by what the CNN says",
            _draw_reliability,
        ),
        (
            spots is not None,
            "Images by number of spots and expert's class",
            _draw_spots,
        ),
        (any(rules(results)), "Hits kept and misses rejected at each cut", _draw_rates),
    ]
    return [(caption, draw) for is_there, caption, draw in figures if is_there]


def _galleries(results: dict, images: Labelled, scored: Scored | None) -> list[dict]:
    """Pictures of what was classified wrongly, the worst mistakes first."""
    if images.stills is None:
        return []
    by, wrong = _mistakes(results)
    return [
        {
            "title": f"{title} by {by}: {len(chosen)}",
            "pictures": [
                picture
                for i in chosen[:_PICTURES]
                if (picture := _card(results, images.stills[i], i, scored))
            ],
        }
        for title, chosen in wrong.items()
        if chosen
    ]


def _mistakes(results: dict) -> tuple[str, dict[str, list[int]]]:
    """Who made them, and hits that are rejected and misses that are kept, by index."""
    entries = results["images"]
    judged = [i for i, image in enumerate(entries) if not image["training"]]
    if results["cnn"] is not None:
        by = "the CNN"
        judged = [i for i in judged if entries[i]["p_hit"] is not None]
        score = {i: entries[i]["p_hit"] + entries[i]["p_maybe"] for i in judged}
        kept = {i: entries[i]["kept"] for i in judged}
    else:
        cut = results["spotfinder"]["min_spots"] or np.inf
        by = f"a cut at {cut} spots"
        score = {i: entries[i]["spotfinder_spots"] for i in judged}
        kept = {i: score[i] >= cut for i in judged}
        if cut == np.inf:
            return by, {}
    miss = {i: entries[i]["expert"] == Label.MISS.title for i in judged}
    lost = [i for i in judged if not miss[i] and not kept[i]]
    wasted = [i for i in judged if miss[i] and kept[i]]
    return by, {
        "Hit or Maybe, rejected": sorted(lost, key=lambda i: score[i]),
        "Miss, kept": sorted(wasted, key=lambda i: -score[i]),
    }


def _card(
    results: dict, still: Still, index: int, scored: Scored | None
) -> dict | None:
    """An image for the gallery; None where it can't be read."""
    image = results["images"][index]
    spots = image.get("spotfinder_spots")
    try:
        if scored is not None:
            entry = {**scored.entries[index], "label": image["expert"]}
            shown = card(entry, still, scored.model.get("most_spots"))
        else:
            kept = spots >= results["spotfinder"]["min_spots"]
            nothing = dict.fromkeys(("p_hit", "n_spots", "spots", "unlike_training"))
            entry = {
                **(image | nothing),
                "class": f"{spots} spots",
                "label": image["expert"],
                "kept": kept,
            }
            shown = card(entry, still, None)
    except Exception:  # whatever dxtbx or a file format may raise
        return None
    if scored is not None and spots is not None:
        shown["note"] = f"{spots} by spot finding"
    return shown


def _draw_roc(axes: Axes, results: dict) -> None:
    """ROC curves, with the 95% interval of the hits kept, and the cuts in use."""
    n_hits = results["expert"]["hit"] + results["expert"]["maybe"]
    curves = (("CNN", "cnn", _CNN), ("number of spots", "spotfinder", _SPOTS))
    for name, key, colour in curves:
        if results[key] is None or results[key]["roc"] is None:
            continue
        wrong = 100 * np.array(results[key]["roc"]["false_positive_rate"])
        right = np.array(results[key]["roc"]["true_positive_rate"])
        intervals = [wilson_interval(round(x * n_hits), n_hits) for x in right]
        low, high = 100 * np.transpose(intervals)
        axes.fill_between(wrong, low, high, color=colour, alpha=0.15, lw=0)
        label = f"{name}, area {results[key]['auc']:.3f}"
        axes.plot(wrong, 100 * right, color=colour, label=label)
    for _, rule in rules(results):
        _draw_point(axes, rule, _colour(rule, results))
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("misses kept, %")
    axes.set_ylabel("hits kept, %")
    axes.legend(fontsize="small", loc="lower right")


def _colour(rule: dict, results: dict) -> str:
    return _CNN if rule is results["cnn"] else _SPOTS


def _draw_point(axes: Axes, rule: dict, colour: str) -> None:
    """One cut on the ROC plot: a cross of its two intervals."""
    (right, _), (wrong, _) = rule["confusion_percent"]
    (right_interval, _), (wrong_interval, _) = rule["confusion_interval_percent"]
    if right is None or wrong is None:
        return
    axes.errorbar(
        [wrong],
        [right],
        xerr=_bars([wrong], [wrong_interval]),
        yerr=_bars([right], [right_interval]),
        fmt="o",
        ms=4,
        color=colour,
        mec="black",
    )


def _draw_reliability(axes: Axes, results: dict) -> None:
    """Fraction of Hit or Maybe in each bin of probability, with its 95% interval."""
    bins = results["cnn"]["calibration"]["bins"]
    mean = [100 * b["mean_p"] for b in bins]
    rates = [b["hit_or_maybe_percent"] for b in bins]
    bars = _bars(rates, [b["hit_or_maybe_interval"] for b in bins])
    axes.plot([0, 100], [0, 100], color="#999999", lw=1, label="as it says")
    axes.errorbar(mean, rates, yerr=bars, fmt="o", ms=4, color=_CNN, label="CNN")
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("mean P(Hit) + P(Maybe), %")
    axes.set_ylabel("Hit or Maybe, %")
    axes.legend(fontsize="small", loc="upper left")


def _draw_spots(axes: Axes, results: dict) -> None:
    """Histogram of spots an image by the expert's class, and the cuts, as Fig. 7."""
    histogram = results["spotfinder"]["histogram"]
    edges = histogram["spots_from"]
    bottom = np.zeros(len(edges))
    for label in Label:
        heights = np.array(histogram[label.name.lower()])
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
    axes.set_xlabel("spots, from")
    axes.set_ylabel("images")
    axes.legend(fontsize="small")


def _draw_rates(axes: Axes, results: dict) -> None:
    """Hits kept and misses rejected by each rule, with their 95% intervals."""
    ways = list(rules(results))
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


def _bars(values: list[float], intervals: list[list[float]]) -> np.ndarray:
    """Lengths of error bars, (2, n): down and up; none below 0 by rounding."""
    low, high = np.transpose(intervals)
    return np.maximum([values - low, high - values], 0)
