"""cnn_screen.html: one page, self-contained, on what a screening run came to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.evaluation.metrics import wilson_interval
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.outputs.page import COLOURS, FAILED, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE, card
from dials_cnn_screen.screening.decision import Decision, explain
from dials_cnn_screen.screening.summary import strangest, tell_unlike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PICTURES = 6


def write_report(
    path: str | Path, results: dict, stills: Sequence[Still], citation: str
) -> None:
    """Write the report of results (in the form of cnn_screen.json)."""
    summary = results["summary"]
    rates = [
        {
            "title": title,
            "colour": COLOURS.get(title, "#333333"),
            "count": summary[key],
            "percent": 100 * summary[key] / summary["images"],
            "interval": [
                100 * x for x in wilson_interval(summary[key], summary["images"])
            ],
        }
        for title, key in (
            ("Hit", "hit"),
            ("Maybe", "maybe"),
            ("Miss", "miss"),
            (FAILED, "failed"),
            ("Kept", "kept"),
        )
    ]
    write_page(
        path,
        "cnn_screen.html",
        results=results,
        rates=rates,
        scores_figure=svg_figure(_draw_scores, results),
        course_figure=svg_figure(_draw_course, results),
        rule=explain(Decision(**results["decision"])),
        unlike=tell_unlike(results),
        galleries=_galleries(results, stills),
        edge=EDGE,
        failed=[image for image in results["images"] if image["error"] is not None],
        citation=citation,
    )


def _galleries(results: dict, stills: Sequence[Still]) -> list[dict]:
    """Pictures of what is unlike training, sure hits, doubtful images, sure misses."""
    score = _scores(results)
    classes = {i: results["images"][i]["class"] for i in score}
    threshold = results["decision"]["threshold"]
    orders = {
        "Unlike anything the model was trained on": [
            image["index"] for image in strangest(results)
        ],
        "Surest hits": sorted(
            (i for i in score if classes[i] == Label.HIT.title), key=lambda i: -score[i]
        ),
        "Nearest to the threshold": sorted(
            score, key=lambda i: abs(score[i] - threshold)
        ),
        "Surest misses": sorted(
            (i for i in score if classes[i] == Label.MISS.title),
            key=lambda i: score[i],
        ),
    }
    return [
        {
            "title": title,
            "pictures": [
                card(results["images"][i], stills[i], results["model"]["most_spots"])
                for i in order[:_PICTURES]
            ],
        }
        for title, order in orders.items()
        if order
    ]


def _scores(results: dict) -> dict[int, float]:
    """P(Hit) + P(Maybe) of the images that were judged, by index."""
    return {
        image["index"]: image["p_hit"] + image["p_maybe"]
        for image in results["images"]
        if image["error"] is None
    }


def _draw_scores(axes: Axes, results: dict) -> None:
    """Histogram of P(Hit) + P(Maybe), by class, with the threshold."""
    score = _scores(results)
    by_class = [
        [score[i] for i in score if results["images"][i]["class"] == label.title]
        for label in Label
    ]
    axes.hist(
        by_class,
        bins=np.linspace(0, 1, 41),
        stacked=True,
        color=[COLOURS[label.title] for label in Label],
        label=[label.title for label in Label],
    )
    threshold = results["decision"]["threshold"]
    axes.axvline(threshold, color="black", lw=1, label="threshold")
    if axes.get_ylim()[1] > 100:
        axes.set_yscale("symlog", linthresh=10)
        axes.yaxis.set_major_formatter("{x:.0f}")
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("P(Hit) + P(Maybe)")
    axes.set_ylabel("images")
    axes.legend(fontsize="small")


def _draw_course(axes: Axes, results: dict) -> None:
    """Rate of hits with its 95% interval, and of kept images, along the run."""
    images = results["images"]
    n_blocks = min(50, max(1, len(images) // 20))
    edges = np.linspace(0, len(images), n_blocks + 1).round().astype(int)
    hits, kept = [], []
    for start, stop in itertools.pairwise(edges):
        block = images[start:stop]
        hits.append(sum(image["class"] == Label.HIT.title for image in block))
        kept.append(sum(image["kept"] for image in block))
    sizes = np.diff(edges)
    low, high = np.transpose(
        [wilson_interval(*h) for h in zip(hits, sizes, strict=True)]
    )
    colour = COLOURS[Label.HIT.title]
    axes.stairs(
        100 * high, edges, baseline=100 * low, fill=True, color=colour, alpha=0.2
    )
    rates = ((hits, colour, "Hit"), (kept, "#333333", "Kept"))
    for counts, colour, name in rates:
        axes.stairs(
            100 * np.array(counts) / sizes,
            edges,
            baseline=None,
            color=colour,
            lw=2,
            label=name,
        )
    axes.set_xlim(0, len(images))
    axes.set_ylim(0, 100)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("image")
    axes.set_ylabel("% of images")
    axes.legend(fontsize="small")
