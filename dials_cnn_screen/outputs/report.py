"""cnn_screen.html: one page, self-contained, on what a screening run came to."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.outputs.gallery import Picture, make_picture, name_failures
from dials_cnn_screen.outputs.log import (
    format_not_reached,
    format_out_of_distribution,
)
from dials_cnn_screen.outputs.page import COLOURS, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE
from dials_cnn_screen.outputs.rates import list_rates
from dials_cnn_screen.outputs.recurring import format_recurring
from dials_cnn_screen.outputs.rings import format_rings
from dials_cnn_screen.screening.decision import format_decision
from dials_cnn_screen.screening.results import ScreeningResults
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.intervals import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger("dials.cnn_screen")

_PICTURES = 6
# Files whose hit rates are on the page; all are in the scores file.
_SOURCES = 200


def write_report(
    path: str | Path, results: ScreeningResults, stills: Sequence[Still], citation: str
) -> None:
    """Write the report of a run; stills: those of the results, in their order."""
    write_page(
        path,
        "cnn_screen.html",
        version=__version__,
        model=results.model,
        rates=list_rates(results),
        colours=COLOURS,
        hit_rates=results.hit_rates()[:_SOURCES],
        n_sources=len(results.hit_rates()),
        resolution=_format_resolution(results),
        n_images=len(results.images),
        not_reached=format_not_reached(results),
        scores_figure=svg_figure(_draw_scores, results),
        run_figure=svg_figure(_draw_run, results),
        decision=format_decision(results.decision),
        knows_distribution=results.summary()["out_of_distribution"] is not None,
        out_of_distribution=format_out_of_distribution(results),
        recurring=format_recurring(results.recurring),
        rings=format_rings(results),
        galleries=_galleries(results, stills),
        edge=EDGE,
        failed=name_failures(results.images, results.display_names()),
        citation=citation,
    )


def _format_resolution(results: ScreeningResults) -> str:
    """The resolutions of the images that have one, a sentence; empty if none has."""
    d_min = [image.d_min for image in results.images if image.d_min is not None]
    if not d_min:
        return ""
    return (
        f"Resolution, as DIALS estimates it from the spots, of {len(d_min)} images: "
        f"median {np.median(d_min):.1f} A, best {min(d_min):.1f} A."
    )


def _galleries(
    results: ScreeningResults, stills: Sequence[Still]
) -> list[dict[str, Any]]:
    """Pictures of what is out of distribution, and of sure and doubtful images."""
    images, names = results.images, results.display_names()
    classified = [i for i, image in enumerate(images) if image.prediction is not None]

    def doubt(i: int) -> float:
        return abs(images[i].p_keep - results.decision.threshold)

    far = {image.name: rank for rank, image in enumerate(results.out_of_distribution)}
    orders = {
        "Out of the distribution of the model's training": sorted(
            (i for i in classified if images[i].name in far),
            key=lambda i: far[images[i].name],
        ),
        "Surest hits": sorted(
            (i for i in classified if images[i].label is Label.HIT),
            key=lambda i: -images[i].p_keep,
        ),
        "Nearest to the threshold": sorted(classified, key=doubt),
        "Surest misses": sorted(
            (i for i in classified if images[i].label is Label.MISS),
            key=lambda i: images[i].p_keep,
        ),
    }

    def pictures(order: list[int]) -> list[Picture]:
        made = []
        for i in order[:_PICTURES]:
            try:
                made.append(
                    make_picture(
                        images[i], names[i], stills[i], results.model.max_spots
                    )
                )
            except Exception as error:  # whatever dxtbx or a file format may raise
                why = one_line(error)
                logger.warning("no picture of %s in the report: %s", names[i], why)
        return made

    return [
        {"title": title, "pictures": pictures(order)}
        for title, order in orders.items()
        if order
    ]


def _put_legend_above(axes: Axes) -> None:
    """A legend in one row, where it hides nothing."""
    axes.legend(
        fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4
    )


def _draw_scores(axes: Axes, results: ScreeningResults) -> None:
    """Histogram of P(Hit) + P(Maybe), by class, with the threshold."""
    axes.hist(
        [
            [image.p_keep for image in results.classified if image.label is label]
            for label in Label
        ],
        bins=np.linspace(0, 1, 41).tolist(),
        stacked=True,
        color=[COLOURS[label.title] for label in Label],
        label=[label.title for label in Label],
    )
    threshold = results.decision.threshold
    axes.axvline(threshold, color="black", lw=1, label="threshold")
    if axes.get_ylim()[1] > 100:
        axes.set_yscale("symlog", linthresh=10)
        axes.yaxis.set_major_formatter("{x:.0f}")
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("P(Hit) + P(Maybe)")
    axes.set_ylabel("images")
    _put_legend_above(axes)


def _draw_run(axes: Axes, results: ScreeningResults) -> None:
    """Hit rate with its 95% interval, and rate of kept images, along the run."""
    images = results.images
    n_blocks = min(50, max(1, len(images) // 20))
    edges = np.linspace(0, len(images), n_blocks + 1).round().astype(int)
    hits, kept = [], []
    for start, stop in itertools.pairwise(edges):
        block = images[start:stop]
        hits.append(sum(image.label is Label.HIT for image in block))
        kept.append(sum(image.kept for image in block))
    draw_rates(axes, edges, np.array(hits), np.array(kept), np.diff(edges))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("image")


def draw_rates(
    axes: Axes, edges: NDArray, hits: NDArray, kept: NDArray, sizes: NDArray
) -> None:
    """Rates of hits, with their 95% intervals, and of kept images in blocks of a run.

    Args:
        axes: Drawn on.
        edges: (n + 1,), where blocks begin and end, images or a time.
        hits, kept, sizes: (n,) each, numbers of images in the blocks. A block without
            images is left empty.
    """
    low, high = np.transpose(
        [wilson_interval(*h) for h in zip(hits, sizes, strict=True)]
    )
    empty = np.where(sizes > 0, 1.0, np.nan)
    colour = COLOURS[Label.HIT.title]
    axes.stairs(
        100 * high * empty,
        edges,
        baseline=100 * low * empty,
        fill=True,
        color=colour,
        alpha=0.2,
    )
    for counts, line, name in ((hits, colour, "Hit"), (kept, "#333333", "Kept")):
        axes.stairs(
            100 * counts / np.maximum(sizes, 1) * empty,
            edges,
            baseline=None,
            color=line,
            lw=2,
            label=name,
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 100)
    axes.set_ylabel("% of images")
    _put_legend_above(axes)
