"""Figures of the report: scores, the run from start to end, spots and resolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.outputs.page import COLOURS
from dials_cnn_screen.screening.hit_rates import name_sources
from dials_cnn_screen.screening.results import ScreeningResults
from dials_cnn_screen.util.intervals import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Blocks of a run, at most, and images in one, at least. By hand: a page is some 500
# pixels wide, and a rate of fewer images says nothing.
_MOST_BLOCKS, _LEAST_IN_BLOCK = 50, 20
# Bars of a histogram, at most, and hits to a bar of that of resolution. By hand.
_BARS, _HITS_IN_BAR = 40, 4
# Where the axis of resolution has numbers, Angstrom.
_D_TICKS = (1, 1.5, 2, 3, 4, 6, 10, 20, 40)


def put_legend_above(axes: Axes) -> None:
    """A legend in one row, where it hides nothing."""
    axes.legend(
        fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4
    )


def draw_scores(axes: Axes, results: ScreeningResults) -> None:
    """Histogram of P(Hit) + P(Maybe), by class, with the threshold."""
    axes.hist(
        [
            [image.p_keep for image in results.classified if image.label is label]
            for label in Label
        ],
        bins=np.linspace(0, 1, _BARS + 1).tolist(),
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
    axes.set_xlim(0, 1)
    axes.set_xlabel("P(Hit) + P(Maybe)")
    axes.set_ylabel("images")
    put_legend_above(axes)


def draw_run(axes: Axes, results: ScreeningResults) -> None:
    """Hit rate with its 95% interval, and rate of kept images, along the run.

    Grey lines are where one file ends and the next begins.
    """
    images = results.images
    names = [image.name for image in images]
    sources = name_sources(names, results.display_names())
    sizes = [len(list(group)) for _, group in itertools.groupby(sources)]
    edges, borders = split_run(sizes)
    hits, kept = [], []
    for start, stop in itertools.pairwise(edges):
        block = images[start:stop]
        hits.append(sum(image.label is Label.HIT for image in block))
        kept.append(sum(image.kept for image in block))
    for border in borders:
        axes.axvline(border, color="#bbbbbb", lw=0.8, zorder=0)
    draw_rates(axes, edges, np.array(hits), np.array(kept), np.diff(edges))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("image")


def split_run(
    sizes: Sequence[int],
) -> tuple[NDArray[np.int64], list[int]]:
    """Where the blocks of a run begin and end, and where its files do.

    A block is of one file, unless there are more files than blocks.

    Args:
        sizes: Numbers of images of the files, in order.

    Returns:
        int64 (n + 1,), the edges of n blocks, from 0; and those that are borders of
        files, none where there are too many to be drawn.
    """
    total = sum(sizes)
    n_blocks = min(_MOST_BLOCKS, max(1, total // _LEAST_IN_BLOCK))
    if len(sizes) > _MOST_BLOCKS:
        return np.linspace(0, total, n_blocks + 1).round().astype(np.int64), []
    ends = np.cumsum([0, *sizes])
    pieces = [
        np.linspace(start, stop, max(1, round(n_blocks * size / total)) + 1)[1:]
        for start, stop, size in zip(ends, ends[1:], sizes, strict=False)
    ]
    edges = np.concatenate([[0], *pieces]).round().astype(np.int64)
    return edges, ends[1:-1].tolist()


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
    # Low rates are to be read, too: up to the next ten percent.
    shown = np.where(sizes > 0, high, 0), kept / np.maximum(sizes, 1)
    most = 100 * np.max(shown, initial=0)
    axes.set_ylim(0, min(100, 10 * (most // 10 + 1)))
    axes.set_ylabel("% of images")
    put_legend_above(axes)


def spot_bins(most: int) -> NDArray[np.float64]:
    """Edges of the bars of a histogram of numbers of spots, up to the most."""
    width = max(1, -(-(most + 1) // _BARS))  # spots in a bar
    return np.arange(0, most + width + 1, width) - 0.5


def draw_spots(axes: Axes, n_spots: Sequence[int]) -> None:
    """Histogram of the number of spots of each hit.

    Args:
        axes: Drawn on.
        n_spots: Of the hits, one or more.
    """
    bins = spot_bins(max(n_spots)).tolist()
    axes.hist(n_spots, bins=bins, color=COLOURS[Label.HIT.title])
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("spots")
    axes.set_ylabel("hits")


def draw_resolution(axes: Axes, d_min: Sequence[float]) -> None:
    """Histogram of the resolutions of hits, the better to the right.

    Args:
        axes: Drawn on.
        d_min: Angstrom, of the hits, one or more.
    """
    low, high = min(d_min) / 1.05, max(d_min) * 1.05
    n_bars = min(_BARS, 5 + len(d_min) // _HITS_IN_BAR)
    axes.hist(
        d_min,
        bins=np.geomspace(low, high, n_bars + 1).tolist(),
        color=COLOURS[Label.HIT.title],
    )
    axes.set_xscale("log")
    ticks = [d for d in _D_TICKS if low <= d <= high]
    if len(ticks) < 2:  # all are nearly the same
        ticks = np.geomspace(low, high, 3).round(2).tolist()
    axes.set_xticks(ticks, [f"{d:g}" for d in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(high, low)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("resolution, Å")
    axes.set_ylabel("hits")
