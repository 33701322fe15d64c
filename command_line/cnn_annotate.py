# LIBTBX_SET_DISPATCHER_NAME dials.cnn_annotate
"""
Label stills as Hit, Maybe or Miss by eye, in dials.image_viewer.

The viewer opens with a row of buttons below the image. Press j for a Hit (ten or more
Bragg spots), k for a Maybe (four to nine) or l for a Miss; the next image follows. Each
label is saved before the next image is shown, and the same command resumes where you
stopped.

Examples::

  dials.cnn_annotate imported.expt annotation=labels.txt

  dials.cnn_annotate imported.expt order=uncertain scores=cnn_screen.json

  dials.cnn_annotate imported.expt annotation=second.txt compare=labels.txt

  dials.cnn_annotate imported.expt keys.hit=1 keys.maybe=2 keys.miss=3
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dials_cnn_screen.util.starting import end_on_interrupt, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()

import libtbx.phil
from dials.util import show_mail_handle_errors

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.agreement import compare_labels, format_agreement
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.spots.eye import check_region
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, Parsed, parse_images, user_errors
from dials_cnn_screen.viewer.overlay import (
    Spots,
    spots_in_reflections,
    spots_in_results,
)
from dials_cnn_screen.viewer.selection import (
    ORDERS_BY_SCORES,
    choose_order,
    read_first_pass,
    read_scores,
)
from dials_cnn_screen.viewer.session import Keys
from dials_cnn_screen.viewer.task import Task

logger = logging.getLogger("dials.cnn_annotate")

phil_scope = load_scope("cnn_annotate")


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_annotate."""

    annotation: str | None
    order: str
    scores: str | None
    random_seed: int
    compare: str | None
    circle_spots: str
    region_of_interest: list[int] | None
    keys: Keys


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_annotate with these arguments (default: the command line's)."""
    usage = "imported.expt | image files [strong.refl]"
    with user_errors():
        parsed = parse_images(
            "dials.cnn_annotate", __doc__, phil, args, usage, read_reflections=True
        )
        _annotate(parsed, read_parameters(Parameters, parsed.params))


def _annotate(parsed: Parsed, params: Parameters) -> None:
    """Open the viewer; report the labels before and after."""
    names = [still.name for still in list_stills(parsed.experiments)]
    if params.annotation is None:
        raise ValueError(
            "annotation=None: give a file for the labels, such as annotation=labels.txt"
        )
    # Not above: -h and -c work where wx does not.
    try:
        from dials_cnn_screen.viewer.window import label_in_viewer
    except ImportError as error:
        raise ValueError(f"the image viewer can't be loaded: {error}") from error
    check_region(region := params.region_of_interest)
    first_pass = read_first_pass(params.compare, params.annotation, names)
    results = _read_scores(names, params, bool(parsed.reflections))
    order = choose_order(params.order, params.random_seed, names, results, first_pass)
    spots = _choose_spots(names, results, parsed, params.circle_spots)
    always = params.circle_spots == "always"
    with LabelFile(params.annotation, names) as labels:
        by = "random" if first_pass else params.order
        labels.note(order=by, scores=params.scores, compare=params.compare)
        logger.info("%s: %s", params.annotation, labels.format_progress(order))
        answers = {n: r for n, r in zip(names, results, strict=True) if r is not None}
        task = Task(labels, order, params.keys, spots, always, answers, region)
        label_in_viewer(parsed.experiments, task)
        logger.info("%s: %s", params.annotation, labels.format_progress(order))
        counts = compare_labels(first_pass, labels.labels)
    if counts.any():
        logger.info("\n%s", format_agreement(counts))
    logger.info("\nPlease cite: %s", CITATION)


def _read_scores(
    names: Sequence[ImageName], params: Parameters, has_reflections: bool
) -> list[ImageResult | None]:
    """The scores of the images; none where no file is given and none are needed."""
    if params.scores is not None:
        return read_scores(params.scores, names)
    if params.compare is None and params.order in ORDERS_BY_SCORES:
        reason = f"order={params.order} needs scores"
    elif params.circle_spots != "never" and not has_reflections:
        reason = f"circle_spots={params.circle_spots} needs scores or a .refl file"
    else:
        return [None] * len(names)
    raise ValueError(f"{reason}; run dials.cnn_screen and give scores=cnn_screen.json")


def _choose_spots(
    names: Sequence[ImageName],
    results: Sequence[ImageResult | None],
    parsed: Parsed,
    circle_spots: str,
) -> dict[ImageName, Spots]:
    """The spots to be circled: those of reflections, or else the model's."""
    if circle_spots == "never":
        return {}
    if parsed.reflections:
        return spots_in_reflections(parsed.experiments, parsed.reflections)
    return spots_in_results(names, results)


if __name__ == "__main__":
    run()
