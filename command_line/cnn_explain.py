# LIBTBX_SET_DISPATCHER_NAME dials.cnn_explain
"""
Show why stills were classified as Hit, Maybe or Miss.

For some images, the evidence for their class: with the default model, what each spot
candidate adds to P(Hit) + P(Maybe); with the network of the paper, the pixels to which
the loss is most sensitive. For all images, a map of their feature vectors, on which
similar images lie together, and galleries of the most doubtful and, with labels of an
expert, the misclassified ones.

Writes a page (cnn_explain.html) and the same in numbers (cnn_explain.json).

Examples::

  dials.cnn_explain imported.expt

  dials.cnn_explain imported.expt annotation=labels.txt image=3,17 nearest_to=3

  dials.cnn_explain imported.expt model=ke2018
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dials_cnn_screen.util.starting import end_on_interrupt, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()

import libtbx.phil
from dials.util import show_mail_handle_errors
from dxtbx.model import ExperimentList

from dials_cnn_screen.explain.embedding import check_scikit_learn
from dials_cnn_screen.explain.reasons import Reason
from dials_cnn_screen.explain.report import write_explanation
from dials_cnn_screen.explain.results import MapResults
from dials_cnn_screen.explain.run import (
    choose_images,
    find_reasons,
    list_named,
    log_results,
    screen_images,
)
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.outputs.log import log_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.results import write_json
from dials_cnn_screen.util.files import check_outputs, replacing_together
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, parse_images, user_errors

logger = logging.getLogger("dials.cnn_explain")

phil_scope = load_scope("cnn_explain")


@dataclass(frozen=True)
class Workers:
    """The parameters of mp: the number of processes, or Auto."""

    nproc: Any


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off."""

    html: str | None
    json: str | None
    log: str | None


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_explain."""

    annotation: list[str | None]
    image: list[int] | None
    model: str | None
    nearest_to: int | None
    max_images: int
    random_seed: int
    device: str
    mp: Workers
    output: Output


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_explain with these arguments (default: the command line's)."""
    with user_errors():
        parsed = parse_images("dials.cnn_explain", __doc__, phil, args)
        _explain(parsed.experiments, read_parameters(Parameters, parsed.params))


def _explain(experiments: ExperimentList, params: Parameters) -> None:
    """Screen stills of the experiments, explain some and write the outputs."""
    stills = list_stills(experiments)
    check_scikit_learn()
    check_outputs(*vars(params.output).values())
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    named = list_named(params.image, params.nearest_to, len(stills))
    labels = {}
    if any(params.annotation):
        labels = match_labels([still.name for still in stills], params.annotation)
    model = load_model(params.model)
    log_model(model)
    seed = params.random_seed
    indices = choose_images(len(stills), params.max_images, named, seed)
    results = screen_images(
        stills, indices, labels, model, params.device, params.mp.nproc, seed
    )
    log_results(results, params.nearest_to)
    reasons = find_reasons(results, model, params.image)
    _write(results, reasons, params.nearest_to, params.output)
    logger.info("\nPlease cite: %s", CITATION)


def _write(
    results: MapResults,
    reasons: Sequence[Reason],
    nearest_to: int | None,
    output: Output,
) -> None:
    with replacing_together():
        if output.json is not None:
            numbers = {reason.image.index: reason.numbers for reason in reasons}
            write_json(output.json, results.as_json(numbers))
        if output.html is not None:
            write_explanation(output.html, results, reasons, nearest_to, CITATION)
    if output.json is not None:
        logger.info("\nSaved the numbers to %s", output.json)
    if output.html is not None:
        logger.info("Saved the page to %s", output.html)


if __name__ == "__main__":
    run()
