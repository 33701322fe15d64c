# LIBTBX_SET_DISPATCHER_NAME dials.cnn_live
"""
Screen stills as they are measured: from a folder, a file that grows, or a stream.

Each image is classified as dials.cnn_screen does. While the run goes on a page
(cnn_live.html) and a status file (cnn_live.json) tell the hit rate, the latest hits and
how far behind it is; each result is in cnn_screen.jsonl as it comes. The run ends with
Ctrl-C, or after idle_time; the kept images (hits.expt) and the scores (cnn_screen.json)
are written then.

Examples::

  dials.cnn_live run_42/

  dials.cnn_live run_42_master.h5 idle_time=60
"""

from __future__ import annotations

import logging
import os
import sys
import time

from dials_cnn_screen.util.starting import end_on_interrupt, import_dxtbx, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()
    import_dxtbx()
    # HDF5 reads this as it is loaded. A file that another program writes is locked by
    # that one, and here files are only read.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

import libtbx.phil
from dials.util import show_mail_handle_errors

from dials_cnn_screen.outputs.log import log_model, log_results, log_text
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import (
    CITATION,
    Parser,
    parse,
    show_help_if_empty,
    user_errors,
)

logger = logging.getLogger("dials.cnn_live")

phil_scope = load_scope("cnn_live")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_live with these arguments (default: the command line's)."""
    # Not above: it loads HDF5, which -h does not need.
    from dials_cnn_screen.live.parameters import Parameters
    from dials_cnn_screen.live.start import find_source, start_session
    from dials_cnn_screen.util.interrupts import interruptible

    parser = Parser(
        usage="dials.cnn_live [options] folder | image file | tcp://host:port",
        phil=phil,
        epilog=__doc__,
    )
    # Not of what is left without the source, of which there need be nothing.
    show_help_if_empty(parser, args)
    with user_errors():
        given, others = find_source(sys.argv[1:] if args is None else args)
        params = read_parameters(Parameters, parse(parser, others, "dials.cnn_live"))
        session, model = start_session(given, params, CITATION)
        log_model(model)
        log_text(f"Watching {given}; Ctrl-C ends the run and writes its outputs.")
        start, n_before = time.perf_counter(), len(session.record.done)
        stopped = session.screen()
        if stopped is not None:
            logger.info("Ended by %s", stopped.signal.name)
        results = session.results()
        if results.images:
            log_results(results, time.perf_counter() - start, n_before)
        with interruptible("interrupted while the outputs were written"):
            session.write_outputs()
        session.record.close()
        logger.info("\nPlease cite: %s", CITATION)
        if not results.images:
            raise ValueError(f"no image came from {given}")
        results.check_classified()


if __name__ == "__main__":
    run()
