# LIBTBX_SET_DISPATCHER_NAME dials.cnn_stills_process
"""
dials.stills_process with a veto: spot finding is skipped on stills without a crystal.

Each still is classified by a neural network before spot finding, as in
dials.cnn_screen. One that is not kept counts as an image without spots. One that could
not be classified, or is out of the distribution of the network's training, is
processed.

Takes what dials.stills_process takes, and the parameters cnn_screen.*. Writes what
dials.stills_process writes, and the scores of all images (cnn_screen.json).

Examples::

  dials.cnn_stills_process run_42/*.h5 mp.nproc=16

  dials.cnn_stills_process imported.expt stills.phil cnn_screen.decision.threshold=0.2

  mpirun -n 64 dials.cnn_stills_process run_42/*.h5 mp.method=mpi
"""

from __future__ import annotations

from dials_cnn_screen.util.starting import end_on_interrupt, import_dxtbx, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()
    import_dxtbx()

from dials.command_line import stills_process
from dials.util import show_mail_handle_errors

from dials_cnn_screen.screening.veto import add_veto, process

phil_scope = add_veto(stills_process.phil_scope)


@show_mail_handle_errors()
def run(args: list[str] | None = None) -> None:
    """Run dials.cnn_stills_process with these arguments, or the command line's."""
    process(
        stills_process.Script(),
        stills_process.Processor,
        phil_scope,
        args,
        "dials.cnn_stills_process [options] [param.phil] filenames",
        __doc__,
    )


if __name__ == "__main__":
    run()
