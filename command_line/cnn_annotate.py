# LIBTBX_SET_DISPATCHER_NAME dials.cnn_annotate
"""
Label stills as Hit, Maybe or Miss by eye, in dials.image_viewer.

The stock viewer opens with a strip of buttons below the image: j is a Hit (ten or more
Bragg spots), k a Maybe (four to nine), l a Miss, and on to the next image. Each label
is on disk when the next image shows; the same command goes on where you left off.

Examples::

  dials.cnn_annotate imported.expt annotation=labels.txt

  dials.cnn_annotate imported.expt order=uncertain scores=cnn_screen.json

  dials.cnn_annotate imported.expt annotation=second.txt compare=labels.txt

  dials.cnn_annotate imported.expt keys.hit=1 keys.maybe=2 keys.miss=3
"""

from __future__ import annotations

import logging
from pathlib import Path

import libtbx.phil
from dials.util import show_mail_handle_errors
from dials.util.options import (
    ArgumentParser,
    flatten_experiments,
    flatten_reflections,
)
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import find_image, list_stills
from dials_cnn_screen.labels.agreement import compare_labels, tell_agreement
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label_file import LabelFile, Name, name_images
from dials_cnn_screen.labels.orders import (
    diverse_order,
    random_order,
    uncertain_order,
)
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.scores_file import read_scores
from dials_cnn_screen.util.program import CITATION, parse, user_errors
from dials_cnn_screen.viewer.overlay import spots_in_reflections, spots_in_scores
from dials_cnn_screen.viewer.session import Keys

logger = logging.getLogger("dials.cnn_annotate")

phil_scope = load_scope("cnn_annotate")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_annotate with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_annotate [options] imported.expt | image files [strong.refl]",
        phil=phil,
        read_experiments=True,
        read_reflections=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_annotate")
        _annotate(
            flatten_experiments(params.input.experiments),
            flatten_reflections(params.input.reflections),
            params,
        )


def _annotate(
    experiments: ExperimentList, tables: list, params: libtbx.phil.scope_extract
) -> None:
    if not len(experiments):
        raise ValueError("no images: give an .expt file from dials.import, or images")
    if params.annotation is None:
        raise ValueError("annotation=None: the labels need a file to go to")
    # Not above: -h and -c work where there are no windows.
    try:
        from dials_cnn_screen.viewer.tool import Task
        from dials_cnn_screen.viewer.window import label_in_viewer
    except ImportError as error:
        raise ValueError(f"this DIALS has no image viewer here: {error}") from error

    keys = Keys(**{k: v for k, v in params.keys.__dict__.items() if k[0] != "_"})
    stills = list_stills(experiments)
    images = [find_image(still.imageset, still.position) for still in stills]
    names = name_images(images)
    order = _choose_order(names, params)
    spots = {}
    if params.circle_spots != "never":
        if tables:
            spots = spots_in_reflections(experiments, tables)
        else:
            spots = spots_in_scores(images, names, _read_scores(params))
    with LabelFile(params.annotation, names) as labels:
        labels.note(**_describe_order(params))
        logger.info(
            "%d images, %d of them labelled in %s",
            len(names),
            sum(labels.counts().values()),
            params.annotation,
        )
        label_in_viewer(
            experiments,
            Task(images, labels, order, keys, spots, params.circle_spots == "always"),
        )
        counts = labels.counts()
        left = sum(labels.get(names[i]) is None for i in order or range(len(names)))
    logger.info(
        "%d images labelled in %s: %s; %d left",
        sum(counts.values()),
        params.annotation,
        ", ".join(f"{counts[label]} {label.title}" for label in Label),
        left,
    )
    if params.compare is not None and counts:
        agreement = compare_labels(params.compare, params.annotation)
        logger.info("\n%s", tell_agreement(agreement))
    logger.info("\nPlease cite: %s", CITATION)


def _choose_order(
    names: list[Name], params: libtbx.phil.scope_extract
) -> list[int] | None:
    """Indices of the images to be shown, first to last; None for all as they come."""
    if params.compare is not None:
        if Path(params.compare).resolve() == Path(params.annotation).resolve():
            raise ValueError(
                f"compare='{params.compare}' is the file that the labels go to; give a "
                "new annotation=second.txt"
            )
        labelled = {
            (a.file, a.frame): a.label for a in read_annotations(params.compare)
        }
        shuffled = random_order(len(names), params.random_seed)
        order = [i for i in shuffled if labelled.get(names[i]) is not None]
        if not order:
            raise ValueError(f"none of these images is labelled in '{params.compare}'")
        return order
    if params.order == "sequence":
        return None
    if params.order == "random":
        return random_order(len(names), params.random_seed)
    scores = _read_scores(params)
    by_score = uncertain_order if params.order == "uncertain" else diverse_order
    return by_score(names, scores)


def _read_scores(params: libtbx.phil.scope_extract) -> dict[Name, dict]:
    """The entries of cnn_screen.json, by name."""
    if params.scores is None:
        raise ValueError(
            f"order={params.order}, circle_spots={params.circle_spots} go by what a "
            "model says: run dials.cnn_screen, and give scores=cnn_screen.json"
        )
    return read_scores(params.scores, dict)[1]


def _describe_order(params: libtbx.phil.scope_extract) -> dict[str, object]:
    """How the images were chosen, for the notes: it matters to who trains on them."""
    if params.compare is not None:
        return {"order": "random", "compare": params.compare}
    return {"order": params.order, "scores": params.scores}


if __name__ == "__main__":
    run()
