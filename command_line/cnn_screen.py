# LIBTBX_SET_DISPATCHER_NAME dials.cnn_screen
"""
Screen serial-crystallography stills as Hit, Maybe or Miss with a neural network.

For every image the probabilities of the three classes are predicted; images whose
P(Hit) + P(Maybe) reaches decision.threshold are kept. An image that could not be
classified, or is out of the distribution of the model's training, is kept too, and
reported.

Writes the kept stills (hits.expt), the scores (cnn_screen.json), a report
(cnn_screen.html), and each result as it comes (cnn_screen.jsonl). Ctrl-C and SIGTERM
end a run with what is done; resume=True goes on with the rest.

Examples::

  dials.cnn_screen imported.expt

  dials.cnn_screen run_42/ mp.nproc=16

  dials.cnn_screen run_42.h5:1-500,800 mask=pixels.mask

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 output.rejected=misses.expt

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 \\
      calibration.annotation=labels.txt calibration.scores=cnn_screen.json

  dials.cnn_screen imported.expt resume=True

  dials.cnn_screen imported.expt recurring=exclude

  mpirun -n 64 dials.cnn_screen imported.expt mp.method=mpi
"""

from __future__ import annotations

import logging
import sys
import time

from dials_cnn_screen.util.starting import end_on_interrupt, import_dxtbx, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()
    import_dxtbx()

import libtbx.phil
from dials.util import show_mail_handle_errors

from dials_cnn_screen.images.geometry import format_far_off
from dials_cnn_screen.images.stills import list_files
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.outputs.kept import check_kept
from dials_cnn_screen.outputs.log import log_model, log_results, log_text
from dials_cnn_screen.outputs.run import write_outputs
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import choose_decision
from dials_cnn_screen.screening.decision import format_decision
from dials_cnn_screen.screening.given_images import prepare_images
from dials_cnn_screen.screening.parameters import Parameters
from dials_cnn_screen.screening.ranks import share_experiments
from dials_cnn_screen.screening.recorded import Run, pointing_to_record
from dials_cnn_screen.screening.second_pass import check_recurring, screen_passes
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.input_words import read_words
from dials_cnn_screen.util.interrupts import interruptible
from dials_cnn_screen.util.mpi import mpi_world
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, Parsed, parse_images, user_errors
from dials_cnn_screen.util.provenance import Provenance

logger = logging.getLogger("dials.cnn_screen")

phil_scope = load_scope("cnn_screen")

WRITING = "interrupted while the outputs were written; resume=True writes them"


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_screen with these arguments (default: the command line's)."""
    with user_errors():
        given = sys.argv[1:] if args is None else args
        words = read_words(given)
        parsed = parse_images(
            "dials.cnn_screen",
            __doc__,
            phil,
            words.args,
            check_format=False,
            leave_out_unreadable=True,
        )
        params = read_parameters(Parameters, parsed.params)
        for note in words.notes:
            logger.info("%s", note)
        made_with = Provenance.of("dials.cnn_screen", given, parsed.changes)
        _screen(parsed, params, words.numbers, made_with)


def _screen(
    parsed: Parsed,
    params: Parameters,
    numbers: dict[str, set[int]],
    made_with: Provenance,
) -> None:
    """Screen the images, write the outputs; ValueError after all for unreadable files.

    numbers: of single files, the images that are meant.
    """
    experiments, unreadable = parsed.experiments, parsed.unreadable
    reads = True
    if params.mp.method == "mpi":
        experiments, reads = share_experiments(experiments, mpi_world())
    experiments, stills = prepare_images(experiments, params, numbers)
    check_outputs(*params.output.files, inputs=list_files(stills))
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    model = load_model(params.model)
    check_kept(params.output, model, stills)
    check_recurring(params, model)
    decision = choose_decision(params.decision, params.calibration, params.eye, model)
    log_text(format_decision(decision))
    if far_off := format_far_off(experiments):
        logger.warning("%s", far_off)
    log_model(model)
    start = time.perf_counter()
    run_ = Run.of(experiments, stills, unreadable, model, decision)
    screened = screen_passes(run_, params, reads)
    if screened is None:
        return  # what is left to do is for the first MPI rank
    results = screened.results
    if not results.images and screened.stopped:
        raise screened.stopped
    results.check_classified()
    log_results(results, time.perf_counter() - start, screened.n_before)
    with interruptible(WRITING), pointing_to_record(params.output.record):
        write_outputs(experiments, screened, params, made_with, CITATION)
    logger.info("\nPlease cite: %s", CITATION)
    if error := screened.stop_error():
        raise error
    if unreadable:
        raise ValueError(
            f"not screened, since they can't be read: {', '.join(unreadable)}"
        )


if __name__ == "__main__":
    run()
