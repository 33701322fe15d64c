"""Loops compiled by numba, with a cache on disk where one can be had."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger("dials.cnn_screen")


def njit(**options: Any) -> Callable[[Callable], Callable]:
    """numba.njit without the global lock, cached on disk.

    The cache is beside the source or in the user's cache folder. Where neither can be
    written, as for a service account without a home, each process compiles anew, which
    takes some seconds; NUMBA_CACHE_DIR names another folder. The cache looks for
    changes in the function's own file alone: it has the old value of a constant of
    another file until it is removed.

    Args:
        options: Of numba.njit.
    """

    def compile_function(function: Callable) -> Callable:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _warn_once()
            return numba.njit(nogil=True, **options)(function)

    return compile_function


@functools.cache
def _warn_once() -> None:
    logger.warning(
        "Compiled code can't be kept: no folder for it can be written. Set "
        "NUMBA_CACHE_DIR to one, and the next start is some seconds faster"
    )
