# LIBTBX_SET_DISPATCHER_NAME dials.cnn_train
"""
Train a network on stills that an expert has labelled Hit, Maybe or Miss.

Labels are read from annotation files, one image per line, such as
'r0027_2000.h5 [1] MISS'. Training starts from the default model and fits it to these
labels: a hundred are enough, and it takes minutes. With start_from=None
architecture=ke2018 the network of the paper is trained from fresh weights; for that
some thousand labels and hours are better.

The images are split into training, validation and test. The network with the lowest
validation loss is written, and tested on the test split. A run that was killed resumes
when it is started again.

Examples::

  dials.cnn_train imported.expt annotation=labels.txt

  dials.cnn_train a.expt b.expt annotation=a.txt annotation=b.txt split.method=position

  dials.cnn_train imported.expt annotation=labels.txt architecture=ke2018 \\
      training.schedule=paper device=cuda

  dials.cnn_screen other.expt model=model.safetensors
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from dials_cnn_screen.util.starting import end_on_interrupt, is_program
from dials_cnn_screen.util.threads import needs_torch

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()

# Before DIALS, or it computes with one thread only: see use_threads.
if needs_torch(sys.argv[1:]):
    import torch  # noqa: F401

import libtbx.phil
from dials.util import show_mail_handle_errors
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.training.parameters import Parameters
from dials_cnn_screen.util.files import check_outputs, replacing_together
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, parse_images, user_errors

logger = logging.getLogger("dials.cnn_train")

phil_scope = load_scope("cnn_train")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_train with these arguments (default: the command line's)."""
    with user_errors():
        parsed = parse_images(
            "dials.cnn_train",
            __doc__,
            phil,
            args,
            "imported.expt annotation=labels.txt",
        )
        _train(parsed.experiments, read_parameters(Parameters, parsed.params))


def _train(experiments: ExperimentList, params: Parameters) -> None:
    """Train on the labelled stills of the experiments and write the outputs."""
    # Not above: torch takes a second, and the help does without.
    from dials_cnn_screen.models.model_file import save_model
    from dials_cnn_screen.training.history import (
        check_picture,
        draw_history,
        write_history,
    )
    from dials_cnn_screen.training.run import train_on_stills

    stills = list_stills(experiments)
    output = params.output
    if output.model is None:
        raise ValueError("output.model=None: give a file for the model")
    checkpoint = Path(f"{output.model}.checkpoint")
    check_outputs(str(checkpoint), *vars(output).values())
    if output.plot is not None:
        check_picture(output.plot)
    trained = train_on_stills(stills, params, Path(output.model).stem, checkpoint)
    title = f"Training of {trained.model.name}"
    with replacing_together():
        save_model(output.model, trained.model)
        if output.history is not None:
            write_history(output.history, trained.summary)
        if output.plot is not None:
            draw_history(output.plot, trained.history, title)
    logger.info("Saved the model to %s", output.model)
    if output.history is not None:
        logger.info("Saved the training history to %s", output.history)
    if output.plot is not None:
        logger.info("Saved the plot to %s", output.plot)
    checkpoint.unlink(missing_ok=True)
    logger.info("\nPlease cite: %s", CITATION)


if __name__ == "__main__":
    run()
