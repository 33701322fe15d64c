# LIBTBX_SET_DISPATCHER_NAME dials.cnn_evaluate
"""
Compare a model, and the spots that dials.find_spots finds, with an expert's labels.

Labels are read from annotation files, one image per line, such as
'r0027_2000.h5 [1] MISS'. The model classifies the images, or its results are read from
a cnn_screen.json. Spots are found on the images (find_spots=...), or counts are read
from a file such as those deposited with CXIDB-76, or from a strong.refl.

Or two runs of dials.cnn_screen are laid side by side (compare=...): of the same images
by two models, decisions or eyes, or of different images; labels are not needed.

Writes all figures with their 95% intervals (cnn_evaluate.json) and a report
(cnn_evaluate.html).

Examples::

  dials.cnn_evaluate imported.expt annotation=labels.txt find_spots=LO19

  dials.cnn_evaluate annotation=labels.txt scores=cnn_screen.json

  dials.cnn_evaluate annotation=expert_annotation.txt min_spots=30 \\
      spot_counts=dials_annotation.txt

  dials.cnn_evaluate imported.expt annotation=labels.txt \\
      reflections=strong.refl training.fraction=0.5

  dials.cnn_evaluate scores=cnn_screen.json compare=other/cnn_screen.json
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dials_cnn_screen.util.starting import end_on_interrupt, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()

import libtbx.phil
from dials.util import show_mail_handle_errors

from dials_cnn_screen.evaluation.comparison_input import compare_runs
from dials_cnn_screen.evaluation.comparison_report import write_comparison
from dials_cnn_screen.evaluation.comparison_tables import log_comparison
from dials_cnn_screen.evaluation.report import write_report
from dials_cnn_screen.evaluation.results import Evaluation
from dials_cnn_screen.evaluation.run import Sources, evaluate_images, log_table
from dials_cnn_screen.evaluation.spotfinding import SpotFinding, as_phil, preset
from dials_cnn_screen.evaluation.tables import make_tables
from dials_cnn_screen.outputs.log import log_failures
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.results import write_json
from dials_cnn_screen.util.files import check_outputs, replacing_together
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import (
    CITATION,
    Parser,
    parse_images,
    user_errors,
)

logger = logging.getLogger("dials.cnn_evaluate")

phil_scope = load_scope("cnn_evaluate")


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off."""

    results: str | None
    html: str | None
    log: str | None


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_evaluate with these arguments (default: the command line's)."""
    with user_errors():
        parsed = parse_images(
            "dials.cnn_evaluate",
            __doc__,
            phil,
            args,
            usage="[imported.expt | image files] annotation=labels.txt",
        )
        sources = read_parameters(Sources, parsed.params)
        output = read_parameters(Output, parsed.params.output)
        check_outputs(*vars(output).values())
        if sources.compare is not None:
            comparison = compare_runs(parsed.experiments, sources)
            results = comparison.as_json(parsed.changes)
            log_comparison(results)
            write_html = partial(write_comparison, comparison=comparison)
        else:
            finding = _read_finding(sources.find_spots, phil, args)
            evaluation = evaluate_images(parsed.experiments, sources, finding)
            results = evaluation.as_json(parsed.changes)
            _log(evaluation, results)
            write_html = partial(write_report, evaluation=evaluation)
        _write(results, output, write_html)


def _read_finding(
    name: str, phil: libtbx.phil.scope, args: list[str] | None
) -> SpotFinding | None:
    """How to find spots, if at all: parameters by name, then what the user changed."""
    if name == "none":
        return None
    finding = preset(name)
    # Read again with these as defaults, so that a user can set back any of them.
    parser = Parser(phil=phil.fetch(source=libtbx.phil.parse(as_phil(finding))))
    parser.parse_args(args, quick_parse=True)
    return replace(finding, changes=parser.diff_phil.get("spotfinder").as_str())


def _log(evaluation: Evaluation, results: dict[str, Any]) -> None:
    if evaluation.spots is not None:
        for remark in evaluation.spots.remarks:
            logger.warning("%s", remark)
    for table in make_tables(results):
        log_table(table)
    if evaluation.screening is not None:
        log_failures(evaluation.screening)


def _write(
    results: dict[str, Any], output: Output, write_html: Callable[..., None]
) -> None:
    with replacing_together():
        if output.results is not None:
            write_json(output.results, results)
        if output.html is not None:
            write_html(output.html, results=results, citation=CITATION)
    if output.results is not None:
        logger.info("Saved all figures to %s", output.results)
    if output.html is not None:
        logger.info("Saved the report to %s", output.html)
    logger.info("\nPlease cite: %s", CITATION)


if __name__ == "__main__":
    run()
