# LIBTBX_SET_DISPATCHER_NAME dials.cnn_simulate
"""
Simulate shots of the five serial-crystallography experiments of Ke et al. (2018).

Writes an HDF5 file in the layout of CXIDB-76, which dials.import reads, and the true
class of each shot: Hit with ten or more visible Bragg spots, Maybe with four to nine,
otherwise Miss.

Examples::

  dials.cnn_simulate experiment=LO19 n_images=200

  dials.cnn_simulate experiment=L498 n_images=30 fractions=1,1,1 random_seed=7
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import libtbx.phil
from dials.util import show_mail_handle_errors
from dials.util.options import ArgumentParser
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.annotation import Annotation, write_annotations
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import plan_run, simulate_run
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.util.files import check_outputs, replacing
from dials_cnn_screen.util.program import parse, user_errors

logger = logging.getLogger("dials.cnn_simulate")

phil_scope = load_scope("cnn_simulate")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_simulate with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_simulate experiment=LO19 n_images=200",
        phil=phil,
        epilog=__doc__,
    )
    with user_errors():
        _simulate(parse(parser, args, "dials.cnn_simulate"))


def _simulate(params: libtbx.phil.scope_extract) -> None:
    experiment = EXPERIMENTS[params.experiment]
    n_shots = params.n_images
    images = Path(params.output.images or f"{experiment.run}_{n_shots}.h5")
    annotation = params.output.annotation
    check_outputs(images, annotation)
    fractions = tuple(params.fractions or experiment.images)
    jobs = plan_run(params.experiment, n_shots, fractions, params.random_seed)
    nproc = min(get_processes(params.mp.nproc), n_shots)
    logger.info("Simulating %d shots of %s, nproc=%d", n_shots, experiment.name, nproc)

    labels = []

    def labelled() -> Iterator[Shot]:
        shots = simulate_run(jobs, nproc)
        for shot in tqdm(shots, total=n_shots, unit="shot", disable=None):
            labels.append(shot.label)
            yield shot

    with replacing(images) as unfinished:
        write_shots(unfinished, experiment, labelled(), n_shots)
    counts = Counter(labels)
    told = ", ".join(f"{counts[label]} {label.title}" for label in Label)
    logger.info("Saved %d shots to %s: %s", n_shots, images, told)
    if annotation is not None:
        lines = (Annotation(images.name, i + 1, x) for i, x in enumerate(labels))
        with replacing(annotation) as unfinished:
            write_annotations(unfinished, lines)
        logger.info("Saved their labels to %s", annotation)


if __name__ == "__main__":
    run()
