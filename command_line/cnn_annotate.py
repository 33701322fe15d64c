# LIBTBX_SET_DISPATCHER_NAME dials.cnn_annotate
"""
Label stills as Hit, Maybe or Miss by eye, in dials.image_viewer.

The stock viewer opens with a strip of buttons below the image: j is a Hit (ten or more
Bragg spots), k a Maybe (four to nine), l a Miss, and on to the next image. Each label
is on disk when the next image shows; the same command goes on where you left off.

Examples::

  dials.cnn_annotate imported.expt annotation=labels.txt

  dials.cnn_annotate imported.expt keys.hit=1 keys.maybe=2 keys.miss=3
"""

from __future__ import annotations

import logging
from pathlib import Path

import libtbx.phil
from dials.util import show_mail_handle_errors
from dials.util.options import ArgumentParser, flatten_experiments
from dxtbx.model import ExperimentList

from dials_cnn_screen.labels import Label
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.program import CITATION, parse, user_errors
from dials_cnn_screen.stills import find_image, list_stills
from dials_cnn_screen.viewer.label_file import LabelFile
from dials_cnn_screen.viewer.session import Keys

logger = logging.getLogger("dials.cnn_annotate")

phil_scope = load_scope("cnn_annotate")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_annotate with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_annotate [options] imported.expt | image files",
        phil=phil,
        read_experiments=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_annotate")
        _annotate(flatten_experiments(params.input.experiments), params)


def _annotate(experiments: ExperimentList, params: libtbx.phil.scope_extract) -> None:
    if not len(experiments):
        raise ValueError("no images: give an .expt file from dials.import, or images")
    if params.annotation is None:
        raise ValueError("annotation=None: the labels need a file to go to")
    # Where there are no windows, all else works.
    from dials_cnn_screen.viewer.tool import Task
    from dials_cnn_screen.viewer.window import label_in_viewer

    stills = list_stills(experiments)
    keys = Keys(**{k: v for k, v in params.keys.__dict__.items() if k[0] != "_"})
    names = [(still.file, still.frame) for still in stills]
    with LabelFile(params.annotation, names) as labels:
        before = sum(labels.counts().values())
        logger.info(
            "%d images, %d of them labelled in %s",
            len(stills),
            before,
            params.annotation,
        )
        images = [find_image(still.imageset, still.position) for still in stills]
        label_in_viewer(experiments, Task(images, labels, keys=keys))
        counts = labels.counts()
        logger.info(
            "%d images labelled in %s: %s; %d left",
            sum(counts.values()),
            Path(params.annotation),
            ", ".join(f"{counts[label]} {label.title}" for label in Label),
            len(stills) - sum(counts.values()),
        )
    logger.info("\nPlease cite: %s", CITATION)


if __name__ == "__main__":
    run()
