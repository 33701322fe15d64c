"""cnn_evaluate.html of two runs side by side: one page, self-contained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dials_cnn_screen.evaluation.comparison import Comparison, Pair
from dials_cnn_screen.evaluation.comparison_tables import (
    RUNS,
    compare_tables,
    tabulate_differences,
)
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.labels.image_name import NameIndex
from dials_cnn_screen.outputs.figures import put_legend_above, spot_bins
from dials_cnn_screen.outputs.gallery import Picture, make_picture
from dials_cnn_screen.outputs.page import svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE, full_middle
from dials_cnn_screen.screening.results import ImageResult, ScreeningResults
from dials_cnn_screen.util.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger("dials.cnn_evaluate.report")

# Of the first run and of the second.
_COLOURS = ("#2166ac", "#b35806")
# Images with pictures, and rows in the table, at most. By hand: a page of some MB.
_PICTURES, _ROWS = 6, 100
# Squares along each axis of the scores, and bars of a histogram, at most. By hand.
_SQUARES, _BARS = 40, 40


def write_comparison(
    path: str | Path, comparison: Comparison, results: dict[str, Any], citation: str
) -> None:
    """Write the report of a comparison; results: of its as_json."""
    pictures = _pictures(comparison)
    write_page(
        path,
        "cnn_compare.html",
        results=results,
        runs=[(name, results[name]) for name in RUNS],
        tables=compare_tables(results),
        differences=tabulate_differences(results, _ROWS),
        figures=[
            (caption, svg_figure(draw, comparison))
            for caption, draw in _figures(comparison)
        ],
        pictures=pictures,
        edge=EDGE,
        citation=citation,
    )


def _figures(
    comparison: Comparison,
) -> list[tuple[str, Callable[[Axes, Comparison], None]]]:
    """Captions and drawings of what there is."""
    figures: list[tuple[str, Callable[[Axes, Comparison], None]]] = [
        ("Images of each class, and kept, with their 95% intervals", _draw_rates),
    ]
    if comparison.pairs:
        caption = "Score of the second run against that of the first, the same images"
        figures.append((caption, _draw_scores))
    caption = "Score distributions; dashed lines: the thresholds"
    figures.append((caption, _draw_distributions))
    if all(run.spots_of_hits() for run in comparison.runs):
        figures.append(("Spots of a hit, by the model", _draw_spots))
    return figures


@dataclass(frozen=True, eq=False)
class _Shown:
    """An image, as the first run sees it and as the second does."""

    title: str
    pictures: list[Picture]


def _pictures(comparison: Comparison) -> list[_Shown]:
    """Those of the images whose scores differ most, if images are given.

    An image that is not given, or can't be read, is left out with a warning.
    """
    if not comparison.stills:
        return []
    index = NameIndex([still.name for still in comparison.stills])
    differing = [p for p in comparison.pairs if p.differs][:_PICTURES]
    shown, source = [], Source()
    for pair in differing:
        try:
            place = index.find(pair.first.name)
            if place is None:
                place = index.find(pair.second.name)
            if place is None:
                logger.warning(
                    "no picture of %s: it is not among the images", pair.name
                )
                continue
            frame = source.read(comparison.stills[place])
            shown.append(_show(comparison, pair, frame))
        except Exception as error:  # whatever dxtbx or a file format may raise
            why = one_line(error)
            logger.warning("no picture of %s in the report: %s", pair.name, why)
    return shown


def _show(comparison: Comparison, pair: Pair, frame: Frame) -> _Shown:
    """Both pictures of an image."""
    large = full_middle(frame)

    def draw(result: ImageResult, run: ScreeningResults, name: str) -> Picture:
        picture = make_picture(
            result, pair.name, frame, run.model.max_spots, pair.expert
        )
        title = f"{name.capitalize()} run: {picture.title}"
        return replace(picture, title=title, large=large)

    sides = zip((pair.first, pair.second), comparison.runs, RUNS, strict=True)
    difference = pair.difference
    text = "one run could not classify it"
    if not np.isnan(difference):
        text = f"scores {pair.first.p_keep:.3f} and {pair.second.p_keep:.3f}"
    return _Shown(f"{pair.name}: {text}", [draw(*side) for side in sides])


def _draw_rates(axes: Axes, comparison: Comparison) -> None:
    """Rates of both runs beside each other, with their 95% intervals."""
    rates = [rate.as_json() for rate in comparison.rates()]
    rates = [rate for rate in rates if any(rate["counts"])]
    for run, name in enumerate(RUNS):
        percent = np.array([rate["percent"][run] for rate in rates])
        low, high = np.transpose([rate["interval_percent"][run] for rate in rates])
        axes.errorbar(
            percent,
            np.arange(len(rates))[::-1] + 0.12 - 0.24 * run,
            xerr=np.maximum([percent - low, high - percent], 0),
            fmt="o",
            ms=4,
            capsize=3,
            color=_COLOURS[run],
            label=f"{name} run",
        )
    axes.set_yticks(np.arange(len(rates))[::-1], [rate["name"] for rate in rates])
    axes.set_xlim(-2, 102)
    axes.set_ylim(-0.6, len(rates) - 0.4)
    axes.set_xlabel("% of images")
    put_legend_above(axes)


def _draw_scores(axes: Axes, comparison: Comparison) -> None:
    """How many images have which scores in the two runs, with the thresholds.

    Squares, not points: so the page stays small, and many images on one place are seen.
    """
    from matplotlib.colors import LogNorm

    pairs = [pair for pair in comparison.pairs if not np.isnan(pair.difference)]
    edges = np.linspace(0, 1, _SQUARES + 1)
    counts, _, _ = np.histogram2d(
        [pair.first.p_keep for pair in pairs],
        [pair.second.p_keep for pair in pairs],
        bins=_SQUARES,
        range=((0, 1), (0, 1)),
    )  # (first, second)
    drawn = axes.pcolormesh(
        edges,
        edges,
        np.ma.masked_equal(counts.T, 0),
        norm=LogNorm(1, max(2, counts.max())),
        cmap="viridis_r",
        rasterized=True,  # as one small picture, not so many squares
    )
    axes.figure.colorbar(drawn, ax=axes, label="images", format="{x:.0f}")
    axes.plot([0, 1], [0, 1], color="#999999", lw=1)
    first, second = (run.decision.threshold for run in comparison.runs)
    axes.axvline(first, color=_COLOURS[0], lw=1, ls="--")
    axes.axhline(second, color=_COLOURS[1], lw=1, ls="--")
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("P(Hit) + P(Maybe), first run")
    axes.set_ylabel("second run")


def _draw_distributions(axes: Axes, comparison: Comparison) -> None:
    """Histograms of P(Hit) + P(Maybe) of both runs, in percent of their images."""
    bins = np.linspace(0, 1, _BARS + 1)
    for run, name, colour in zip(comparison.runs, RUNS, _COLOURS, strict=True):
        scores = [image.p_keep for image in run.classified]
        _draw_steps(axes, scores, bins, f"{name} run", colour)
        axes.axvline(run.decision.threshold, color=colour, lw=1, ls="--")
    # Most images are sure: what lies between is to be seen, too.
    axes.set_yscale("symlog", linthresh=1)
    axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    axes.set_ylim(0, 100)
    axes.set_xlim(0, 1)
    axes.set_xlabel("P(Hit) + P(Maybe)")
    axes.set_ylabel("% of images")
    put_legend_above(axes)


def _draw_spots(axes: Axes, comparison: Comparison) -> None:
    """Histograms of the spots of hits of both runs, in percent of the hits."""
    spots = [run.spots_of_hits() for run in comparison.runs]
    bins = spot_bins(max(map(max, spots)))
    for n_spots, name, colour in zip(spots, RUNS, _COLOURS, strict=True):
        label = f"{name} run, median {np.median(n_spots):g}"
        _draw_steps(axes, n_spots, bins, label, colour)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("spots")
    axes.set_ylabel("% of hits")
    put_legend_above(axes)


def _draw_steps(
    axes: Axes, values: list[Any], bins: np.ndarray, label: str, colour: str
) -> None:
    """One histogram as a line, in percent of the values."""
    counts, _ = np.histogram(values, bins)
    percent = 100 * counts / max(1, len(values))
    axes.stairs(percent, bins, color=colour, lw=1.5, label=label)
