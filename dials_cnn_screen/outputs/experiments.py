"""Experiment lists of chosen stills, such as hits.expt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dxtbx.model import ExperimentList

from dials_cnn_screen.images.selection import select_experiments
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.util.files import replacing

logger = logging.getLogger("dials.cnn_screen")


def write_experiments(
    path: str | Path,
    experiments: ExperimentList,
    stills: Sequence[Still],
    chosen: Sequence[bool],
) -> int:
    """Write the experiments of the chosen stills, with their models as they are.

    Returns:
        How many images they have: those without a detector or beam model are left out.
    """
    named = [experiments[still.experiments[0]] for still in stills]
    usable = [
        wanted and bool(e.detector and e.beam)
        for wanted, e in zip(chosen, named, strict=True)
    ]
    if lost := sum(chosen) - sum(usable):
        # With one of them no program of DIALS opens the list.
        logger.warning(
            "%d images have no detector or beam model and can't be in %s", lost, path
        )
    selected = select_experiments(experiments, stills, usable)
    with replacing(path) as unfinished:
        # as_file refuses names without .expt, such as /dev/null.
        selected.as_json(unfinished)
    return sum(usable)
