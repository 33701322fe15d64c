"""Experiment lists of chosen stills, such as hits.expt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dxtbx.model import ExperimentList

from dials_cnn_screen.images.selection import select_experiments
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.util.files import replacing


def write_experiments(
    path: str | Path,
    experiments: ExperimentList,
    stills: Sequence[Still],
    chosen: Sequence[bool],
) -> None:
    """Write the experiments of the chosen stills, with their models as they are."""
    selected = select_experiments(experiments, stills, chosen)
    with replacing(path) as unfinished:
        selected.as_file(unfinished)
