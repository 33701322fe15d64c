# LIBTBX_SET_DISPATCHER_NAME dials.cnn_screen
"""
Screen serial-crystallography stills as Hit, Maybe or Miss with a neural network.

For every image the probabilities of the three classes are predicted; images whose
P(Hit) + P(Maybe) reaches decision.threshold are kept. An image that could not be
classified, or is out of the distribution of the model's training, is kept too, and
reported.

Writes the kept stills (hits.expt), the scores (cnn_screen.json) and a report
(cnn_screen.html).

Examples::

  dials.cnn_screen imported.expt

  dials.cnn_screen run_42/*.h5 mp.nproc=16

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 output.rejected=misses.expt

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 \\
      calibration.annotation=labels.txt calibration.scores=cnn_screen.json

  mpirun -n 64 dials.cnn_screen imported.expt mp.method=mpi
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from os.path import abspath

import libtbx.phil
from dials.util import show_mail_handle_errors
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.outputs.experiments import write_experiments
from dials_cnn_screen.outputs.log import log_model, log_results, log_text
from dials_cnn_screen.outputs.report import write_report
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import choose_decision
from dials_cnn_screen.screening.decision import format_decision
from dials_cnn_screen.screening.parameters import Output, Parameters
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    write_results,
)
from dials_cnn_screen.screening.run import stream_results
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, parse_images, user_errors

logger = logging.getLogger("dials.cnn_screen")

phil_scope = load_scope("cnn_screen")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_screen with these arguments (default: the command line's)."""
    with user_errors():
        parsed = parse_images(
            "dials.cnn_screen",
            __doc__,
            phil,
            args,
            check_format=False,
            leave_out_unreadable=True,
        )
        params = read_parameters(Parameters, parsed.params)
        _screen(parsed.experiments, parsed.unreadable, params)


def _screen(
    experiments: ExperimentList, unreadable: dict[str, str], params: Parameters
) -> None:
    """Screen the stills of the experiments and write the outputs.

    unreadable: files and why they can't be read. ValueError after all is written where
    there are any.
    """
    stills = list_stills(experiments)
    inputs = {still.name.path for still in stills}
    check_outputs(*vars(params.output).values(), inputs=inputs)
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    model = load_model(params.model)
    decision = choose_decision(params.decision, params.calibration, params.eye, model)
    log_text(format_decision(decision))
    log_model(model)
    start = time.perf_counter()
    images = list(stream_results(stills, model, decision, params.device, params.mp))
    if not images:
        return  # what is left to do is for the first MPI rank
    images += [
        decide(
            ImageName(abspath(file)), None, f"the file can't be read: {why}", decision
        )
        for file, why in unreadable.items()
    ]
    results = ScreeningResults(ModelSummary.of(model), decision, images)
    if not results.classified:
        raise ValueError(
            f"none of the {len(stills)} images could be classified; the first, "
            f"{results.display_names()[0]}: {images[0].error}"
        )
    log_results(results, time.perf_counter() - start)
    _write(experiments, stills, results, params.output)
    logger.info("\nPlease cite: %s", CITATION)
    if unreadable:
        raise ValueError(
            f"not screened, since they can't be read: {', '.join(unreadable)}"
        )


def _write(
    experiments: ExperimentList,
    stills: Sequence[Still],
    results: ScreeningResults,
    output: Output,
) -> None:
    kept = results.kept[: len(stills)]  # after them are files that can't be read
    lists = ((output.experiments, kept), (output.rejected, [not k for k in kept]))
    for path, chosen in lists:
        if path is not None:
            write_experiments(path, experiments, stills, chosen)
            logger.info("Saved %d of %d images to %s", sum(chosen), len(stills), path)
    if output.scores is not None:
        write_results(output.scores, results)
        logger.info("Saved the scores to %s", output.scores)
    if output.html is not None:
        write_report(output.html, results, stills, CITATION)
        logger.info("Saved the report to %s", output.html)


if __name__ == "__main__":
    run()
