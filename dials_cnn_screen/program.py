"""What all programs do alike: parse arguments, open the log, turn errors into Sorry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import dials.util.log
import libtbx.phil
from dials.util import Sorry
from dials.util.options import ArgumentParser
from dials.util.version import dials_version

from dials_cnn_screen import __version__
from dials_cnn_screen.files import check_writable

CITATION = (
    "Ke, T.-W., Brewster, A. S., Yu, S. X., Ushizima, D., Yang, C. & Sauter, N. K. "
    "(2018). J. Synchrotron Rad. 25, 655-670."
)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can mend, and Ctrl-C, into one line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Sorry(" ".join(str(error).split())) from None
    except KeyboardInterrupt:
        raise Sorry("interrupted; no result was written") from None


def parse(
    parser: ArgumentParser, args: list[str] | None, program: str, log: bool = True
) -> libtbx.phil.scope_extract:
    """Parameters of a run; the log is opened, with versions and what was modified."""
    params, options = parser.parse_args(args=args, show_diff_phil=False)
    if log:
        if params.output.log is not None:
            check_writable(params.output.log)
        dials.util.log.config(verbosity=options.verbose, logfile=params.output.log)
        logger = logging.getLogger(program)
        logger.info("%s, %s %s", dials_version(), program, __version__)
        changes = parser.diff_phil.as_str()
        if changes:
            logger.info("The following parameters have been modified:\n\n%s", changes)
    return params
