"""cnn_screen.html: one page, self-contained, on what a screening run came to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from dials_cnn_screen import __version__
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.outputs.figures import (
    draw_resolution,
    draw_run,
    draw_scores,
    draw_spots,
)
from dials_cnn_screen.outputs.gallery import Picture, make_picture, name_failures
from dials_cnn_screen.outputs.image_table import tabulate_images
from dials_cnn_screen.outputs.log import (
    format_estimate,
    format_not_reached,
    format_out_of_distribution,
)
from dials_cnn_screen.outputs.page import COLOURS, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE, whole
from dials_cnn_screen.outputs.projection import project
from dials_cnn_screen.outputs.rates import list_rates
from dials_cnn_screen.outputs.recurring import format_recurring
from dials_cnn_screen.outputs.resolution import find_resolutions
from dials_cnn_screen.outputs.rings import format_rings
from dials_cnn_screen.screening.decision import format_decision
from dials_cnn_screen.screening.results import ScreeningResults
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.provenance import Provenance, find_versions, format_now

logger = logging.getLogger("dials.cnn_screen")

_PICTURES = 6
# Pixels along the longer edge of a virtual powder picture, and of the enlarged one, at
# most. By hand: detectors of 4 million pixels are shown pixel by pixel.
_POWDER_EDGES = 720, 2200
# Files whose hit rates are on the page; all are in the scores file.
_SOURCES = 200


def write_report(
    path: str | Path,
    results: ScreeningResults,
    stills: Sequence[Still],
    made_with: Provenance,
    citation: str,
    nproc: Any = 1,
) -> None:
    """Write the report of a run.

    Args:
        path: Of the page.
        results: Of the run.
        stills: Those of the results, in their order.
        made_with: Command, folder, date and parameters.
        citation: What to cite.
        nproc: Processes that read images again, as count_processes has it.
    """
    hit_rates = results.hit_rates()
    write_page(
        path,
        "cnn_screen.html",
        version=__version__,
        model=results.model,
        images_of=_format_input(results),
        made_with=made_with,
        written=format_now(),
        versions=find_versions(),
        rates=list_rates(results),
        colours=COLOURS,
        hit_rates=hit_rates[:_SOURCES],
        n_sources=len(hit_rates),
        n_images=len(results.images),
        not_reached=format_not_reached(results),
        figures=_figures(results, stills, len(hit_rates)),
        decision=format_decision(results.decision),
        estimate=format_estimate(results),
        knows_distribution=results.summary()["out_of_distribution"] is not None,
        out_of_distribution=format_out_of_distribution(results),
        recurring=format_recurring(results.recurring),
        rings=format_rings(results),
        powders=_powders(results, stills, nproc),
        galleries=_galleries(results, stills),
        edge=EDGE,
        failed=name_failures(results.images, results.display_names()),
        table=tabulate_images(results.images),
        citation=citation,
    )


def _format_input(results: ScreeningResults) -> str:
    """What was screened: how many images of which files."""
    paths = list(dict.fromkeys(image.name.path for image in results.images))
    first, last = paths[0], PurePath(paths[-1]).name
    n_images = len(results.images)
    told = f"{n_images:,} image{'s' * (n_images != 1)} of {first}"
    if len(paths) == 1:
        return told
    return f"{told} to {last}, {len(paths):,} files"


def _figures(
    results: ScreeningResults, stills: Sequence[Still], n_sources: int
) -> list[tuple[str, str]]:
    """Captions and drawings of what there is; n_sources: files, or folders of some."""
    n_spots = results.spots_of_hits()
    lines = "" if n_sources == 1 else "; grey lines: from one file to the next"
    figures = [
        ("Score distribution", svg_figure(draw_scores, results)),
        (
            f"Hit rate along the run, with its 95% interval{lines}",
            svg_figure(draw_run, results),
        ),
    ]
    if n_spots:
        text = f"Spots of a hit, by the model: median {np.median(n_spots):g}"
        figures.append((text, svg_figure(draw_spots, n_spots)))
    caption, d_min = find_resolutions(results.images, stills)
    if d_min:
        figures.append((caption, svg_figure(draw_resolution, d_min)))
    return figures


@dataclass(frozen=True)
class _Powder:
    """A virtual powder picture: its title, and JPEGs in base64."""

    title: str
    jpeg: str
    large: str


def _powders(
    results: ScreeningResults, stills: Sequence[Still], nproc: Any
) -> list[_Powder]:
    """The maximum of hits, and that of misses."""
    made = []
    for label, name in ((Label.HIT, "hits"), (Label.MISS, "misses")):
        places = [i for i, im in enumerate(results.images) if im.label is label]
        try:
            projection = project([stills[i] for i in places], nproc)
        except ChildProcessError as error:
            logger.warning("no virtual powder of %s in the report: %s", name, error)
            continue
        if projection is None:
            continue
        frame = projection.frame
        title = f"Maximum of {projection.n_images} of {len(places):,} {name}"
        small, large = (whole(frame, edge, quality=60) for edge in _POWDER_EDGES)
        made.append(_Powder(title, small, large))
    return made


def _galleries(
    results: ScreeningResults, stills: Sequence[Still]
) -> list[dict[str, Any]]:
    """Pictures of what is out of distribution, and of sure and doubtful images."""
    images, names, source = results.images, results.display_names(), Source()
    classified = [i for i, image in enumerate(images) if image.prediction is not None]

    def doubt(i: int) -> float:
        return abs(images[i].p_keep - results.decision.threshold)

    def sureness(i: int) -> tuple[float, int]:
        """Of many sure hits those with the most spots come first."""
        prediction = images[i].prediction
        n_spots = prediction and prediction.n_spots
        return -round(images[i].p_keep, 3), -(n_spots or 0)

    far = {image.name: rank for rank, image in enumerate(results.out_of_distribution)}
    orders = {
        "Out of the distribution of the model's training": sorted(
            (i for i in classified if images[i].name in far),
            key=lambda i: far[images[i].name],
        ),
        "Surest hits": sorted(
            (i for i in classified if images[i].label is Label.HIT),
            key=sureness,
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
                        images[i],
                        names[i],
                        source.read(stills[i]),
                        results.model.max_spots,
                        enlarges=True,
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
