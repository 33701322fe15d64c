# LIBTBX_SET_DISPATCHER_NAME dials.cnn_simulate
"""
Simulate shots of the five serial-crystallography experiments of Ke et al. (2018).

Writes an HDF5 file in the layout of CXIDB-76, which dials.import reads, and the true
class of each shot: Hit with ten or more visible Bragg spots, Maybe with four to nine,
otherwise Miss.

Examples::

  dials.cnn_simulate experiment=LO19 n_images=200

  dials.cnn_simulate experiment=L498 n_images=30 fractions=1,1,1 random_seed=7

  dials.cnn_simulate output.stream=tcp://127.0.0.1:5500 rate=120
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dials_cnn_screen.util.starting import end_on_interrupt, is_program

if is_program(__file__):  # before DIALS, which takes long to import
    end_on_interrupt()

import libtbx.phil
from dials.util import show_mail_handle_errors

from dials_cnn_screen.labels.annotation import Annotation, write_annotations
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label, count_labels, format_counts
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.util.files import check_outputs, replacing, replacing_together
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import Parser, parse, show_help_if_empty, user_errors
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import Processes, count_processes

if TYPE_CHECKING:
    from dials_cnn_screen.simulation.shot import Shot

logger = logging.getLogger("dials.cnn_simulate")

phil_scope = load_scope("cnn_simulate")


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off."""

    images: str | None
    stream: str | None
    annotation: str | None
    log: str | None


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_simulate."""

    experiment: str
    n_images: int
    fractions: list[float] | None
    random_seed: int
    rate: float | None
    mp: Processes
    output: Output


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_simulate with these arguments (default: the command line's)."""
    parser = Parser(
        usage="dials.cnn_simulate experiment=LO19 n_images=200",
        phil=phil,
        epilog=__doc__,
    )
    show_help_if_empty(parser, args)
    with user_errors():
        params = parse(parser, args, "dials.cnn_simulate")
        _simulate(read_parameters(Parameters, params))


def _simulate(params: Parameters) -> None:
    """Simulate the images and write them with their labels."""
    # Not above: torch takes a second, which -h does not need.
    from dials_cnn_screen.simulation.cxidb76 import write_shots
    from dials_cnn_screen.simulation.experiments import EXPERIMENTS
    from dials_cnn_screen.simulation.run import plan_run, simulate_run

    experiment, n = EXPERIMENTS[params.experiment], params.n_images
    output = params.output
    images = Path(output.images or f"{experiment.run}_{n}.h5")
    has_file = output.images is not None or output.stream is None
    check_outputs(images if has_file else None, output.annotation)
    fractions = tuple(params.fractions or experiment.images)
    jobs = plan_run(params.experiment, n, fractions, params.random_seed)
    sender = None
    if output.stream is not None:
        from dials_cnn_screen.live.send import ImageSender

        d = experiment.detector
        trusted = d.min_trusted, d.saturation
        sender = ImageSender(output.stream, n, d.beam_centre, trusted)
    nproc = count_processes(params.mp.nproc, n)
    logger.info("Simulating %d shots of %s, nproc=%d", n, experiment.name, nproc)
    labels: list[Label] = []

    def shots() -> Iterator[Shot]:
        for shot in track(simulate_run(jobs, nproc), "Simulating", n, "shot"):
            labels.append(shot.label)
            if sender is not None:
                sender.add(shot.image)
            yield shot

    with replacing_together():
        if has_file:
            with replacing(images) as unfinished:
                write_shots(unfinished, experiment, shots(), n)
        else:
            for _ in shots():
                pass
        if output.annotation is not None:
            file = images.name if sender is None else sender.series
            lines = (
                Annotation(ImageName(file, i), label)
                for i, label in enumerate(labels, start=1)
            )
            with replacing(output.annotation) as unfinished:
                write_annotations(unfinished, lines)
    counts = format_counts(count_labels(labels))
    if has_file:
        logger.info("Saved %d shots to %s: %s", n, images, counts)
    if output.annotation is not None:
        logger.info("Saved their labels to %s", output.annotation)
    if sender is not None:
        logger.info("Sending %d shots at %s: %s", n, output.stream, counts)
        seconds = sender.send(params.rate)
        logger.info("Sent in %.1f s, %.1f images/s", seconds, n / seconds)


if __name__ == "__main__":
    run()
