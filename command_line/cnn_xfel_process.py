# LIBTBX_SET_DISPATCHER_NAME cctbx.xfel.cnn_process
"""
cctbx.xfel.process with a veto: spot finding is skipped on stills without a crystal.

As dials.cnn_stills_process, with the parameters and the database of cctbx.xfel.process,
where stills that are not kept are logged as images without spots. In the GUI of
cctbx.xfel the dispatcher of a job is this file.

Examples::

  cctbx.xfel.cnn_process run_42/*.h5 input.trial=3 cnn_screen.decision.max_hit_loss=0.01
"""

from __future__ import annotations

from typing import Any

from dials_cnn_screen.util.starting import end_on_interrupt, import_dxtbx, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()
    import_dxtbx()

import libtbx.phil
from dials.util import Sorry, show_mail_handle_errors

from dials_cnn_screen.screening.veto import add_veto, process


def __getattr__(name: str) -> libtbx.phil.scope:
    """phil_scope, which the GUI of cctbx.xfel reads; made where it is asked for."""
    if name != "phil_scope":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return add_veto(_xfel_process().phil_scope)


def _xfel_process() -> Any:
    """The module of cctbx.xfel.process; Sorry where this DIALS has none."""
    try:
        from xfel.command_line import xfel_process
        from xfel.ui.db import frame_logging  # noqa: F401
    except ImportError as error:
        raise Sorry(
            f"this DIALS has no whole cctbx.xfel ({error}); dials.cnn_stills_process "
            "does the same without its database"
        ) from None
    return xfel_process


@show_mail_handle_errors()
def run(args: list[str] | None = None) -> None:
    """Run cctbx.xfel.cnn_process with these arguments, or the command line's."""
    xfel_process = _xfel_process()
    from xfel.ui.db.frame_logging import DialsProcessorWithLogging

    process(
        xfel_process.Script(),
        DialsProcessorWithLogging,
        add_veto(xfel_process.phil_scope),
        args,
        "cctbx.xfel.cnn_process [options] [param.phil] filenames",
        __doc__,
    )


if __name__ == "__main__":
    run()
