# LIBTBX_SET_DISPATCHER_NAME dials.cnn_evaluate
"""
Compare a network, and the spots that dials.find_spots finds, with an expert's labels.

Labels stand in annotation files, one line an image, such as 'r0027_2000.h5 [1] MISS'.
The network is run on the images, or its scores are read from a cnn_screen.json. Spots
are found on the images (find_spots=...), or counts are read from a file such as those
deposited with CXIDB-76, or from a strong.refl.

Writes all figures with their intervals (cnn_evaluate.json) and a report
(cnn_evaluate.html).

Examples::

  dials.cnn_evaluate imported.expt annotation=labels.txt find_spots=LO19

  dials.cnn_evaluate annotation=labels.txt scores=cnn_screen.json

  dials.cnn_evaluate annotation=expert_annotation.txt min_spots=30 \\
      spot_counts=dials_annotation.txt

  dials.cnn_evaluate imported.expt annotation=labels.txt \\
      reflections=strong.refl training.fraction=0.5
"""

from __future__ import annotations

import contextlib
import logging
import platform
import textwrap
from collections.abc import Iterator
from dataclasses import replace

import libtbx.phil
import numpy as np
import torch
from dials.util import show_mail_handle_errors, tabulate
from dials.util.options import ArgumentParser, flatten_experiments
from dials.util.version import dials_version
from dxtbx.model import ExperimentList
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen import __version__
from dials_cnn_screen.evaluation.figures import check_parts, evaluate, in_words
from dials_cnn_screen.evaluation.input import (
    Counted,
    Labelled,
    Scored,
    counted_now,
    describe_images,
    judged,
    read_counted,
    read_labelled,
    read_scored,
)
from dials_cnn_screen.evaluation.report import write_report
from dials_cnn_screen.evaluation.spotfinding import (
    SpotFinding,
    as_phil,
    count_in_table,
    describe,
    find_on_stills,
    preset,
)
from dials_cnn_screen.evaluation.tables import tables
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.decision import Decision, keep
from dials_cnn_screen.screening.run import choose_device, screen
from dials_cnn_screen.screening.summary import (
    keep_scores,
    mean_seconds,
    summarise,
    unlike_training,
    write_json,
)
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.program import CITATION, parse, user_errors

logger = logging.getLogger("dials.cnn_evaluate")

phil_scope = load_scope("cnn_evaluate")

# Characters in a line of the log.
_WIDTH = 80
# Images that the log names of many; all are in the results.
_NAMED = 5


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_evaluate with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_evaluate [options] [imported.expt] annotation=labels.txt",
        phil=phil,
        read_experiments=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_evaluate")
        experiments = flatten_experiments(params.input.experiments)
        finding = _spot_finding(params, phil, args)
        _evaluate(experiments, params, finding, parser.diff_phil.as_str())


def _spot_finding(
    params: libtbx.phil.scope_extract, phil: libtbx.phil.scope, args: list[str] | None
) -> SpotFinding | None:
    """How to find spots, if at all: parameters by name, then what the user changed."""
    if params.find_spots == "none":
        return None
    finding = preset(params.find_spots)
    # Read again with these as defaults, so that a user can set back any of them.
    parser = ArgumentParser(phil=phil.fetch(source=libtbx.phil.parse(as_phil(finding))))
    parser.parse_args(args, quick_parse=True)
    return replace(finding, changes=parser.diff_phil.as_str())


def _evaluate(
    experiments: ExperimentList,
    params: libtbx.phil.scope_extract,
    finding: SpotFinding | None,
    changes: str,
) -> None:
    """Bring together what is known of the labelled images; write what it comes to.

    changes: the parameters that were changed, in PHIL form.
    """
    outputs = params.output
    check_outputs(outputs.results, outputs.html, outputs.log)
    _check_sources(params, has_images=len(experiments) > 0)
    stills = list_stills(experiments) if len(experiments) else None
    images = _read_labelled(stills, params)
    # First what takes no time, as there may be something wrong with it.
    counted = _read_counts(images, experiments, stills, params)
    scored = _score(images, params)
    if finding is not None:
        counted = _find_spots(images, experiments, params, finding)
    threshold = params.decision.threshold
    results = {
        "program": "dials.cnn_evaluate",
        "version": __version__,
        "versions": _versions(),
        "parameters": changes,
        "model": None if scored is None else scored.model,
        **evaluate(
            judged(images, scored, counted),
            images.training,
            threshold,
            None if counted is None else counted.min_spots,
        ),
    }
    if scored is not None:
        results["cnn"]["seconds"] = scored.seconds
    if counted is not None:
        results["spotfinder"]["source"] = counted.source
        results["spotfinder"]["parameters"] = counted.parameters
        results["spotfinder"]["seconds"] = counted.seconds
        for remark in counted.remarks:
            logger.warning("%s", remark)
    results["images"] = describe_images(images, scored, counted, threshold)
    _log_results(results)
    if outputs.results is not None:
        write_json(outputs.results, results)
        logger.info("Saved all figures to %s", outputs.results)
    if outputs.html is not None:
        write_report(outputs.html, results, images, scored, CITATION)
        logger.info("Saved the report to %s", outputs.html)
    logger.info("\nPlease cite: %s", CITATION)


def _check_sources(params: libtbx.phil.scope_extract, has_images: bool) -> None:
    """Raise ValueError where there is nothing to judge, or too much."""
    counts = {
        "spot_counts": params.spot_counts is not None,
        "reflections": params.reflections is not None,
        "find_spots": params.find_spots != "none",
    }
    given = [name for name, is_given in counts.items() if is_given]
    if len(given) > 1:
        raise ValueError(f"spots come from one of {' and '.join(given)}; leave one out")
    if not has_images and given[:1] in (["reflections"], ["find_spots"]):
        raise ValueError(f"{given[0]} needs the images: give the .expt file, or images")
    has_scores = params.scores is not None or (has_images and params.model is not None)
    if not has_scores and not given:
        raise ValueError(
            "nothing to compare with the labels: give images, scores=cnn_screen.json, "
            "or spot_counts=counts.txt"
        )
    if params.min_spots is not None and not given:
        raise ValueError("min_spots needs spots: give find_spots, or counts of them")
    chooses = params.training.fraction is not None
    if chooses and any(path is not None for path in params.training.annotation):
        raise ValueError(
            "training.fraction and training.annotation both say which images cuts are "
            "chosen on; leave one out"
        )


def _read_labelled(
    stills: list[Still] | None, params: libtbx.phil.scope_extract
) -> Labelled:
    options = params.training
    images = read_labelled(params.annotation, options.annotation, stills)
    if options.fraction is not None:
        images = images.with_training(options.fraction, options.random_seed)
    check_parts(images.labels, images.training)
    parts = (("To choose cuts on", images.training), ("Judged", ~images.training))
    for title, part in parts:
        if part.any():
            labels = images.labels[part]
            logger.info("%s: %d images, %s", title, len(labels), in_words(labels))
    if stills is not None and len(stills) > len(images.names):
        logger.info(
            "%d images without a label are left out", len(stills) - len(images.names)
        )
    return images


def _score(images: Labelled, params: libtbx.phil.scope_extract) -> Scored | None:
    """What the network says of the images, now or in an earlier run."""
    if params.scores is not None:
        return read_scored(images, params.scores)
    if images.stills is None or params.model is None:
        return None
    model, stills = load_model(params.model), images.stills
    device = choose_device(params.device)
    nproc = min(get_processes(params.mp.nproc), len(stills))
    logger.info(
        "Screening %d images with model %s on %s, nproc=%d",
        len(stills),
        model.name,
        device,
        nproc,
    )
    judgements = _with_bar(screen(stills, model, device, nproc), "Screening", stills)
    decision = Decision(params.decision.threshold)
    kept = keep(keep_scores(judgements), decision, unlike_training(judgements))
    entries = summarise(stills, judgements, kept, model, decision)
    seconds = mean_seconds(judgements).round(4).tolist()
    steps = ("reading", "preparing", "classifying")
    return Scored(
        entries["model"], entries["images"], dict(zip(steps, seconds, strict=True))
    )


def _read_counts(
    images: Labelled,
    experiments: ExperimentList,
    stills: list[Still] | None,
    params: libtbx.phil.scope_extract,
) -> Counted | None:
    """The spots of the images by a file of them."""
    if params.spot_counts is not None:
        return read_counted(images, params.spot_counts, params.min_spots)
    if params.reflections is None:
        return None
    n_spots = count_in_table(params.reflections, experiments, stills)
    place = {id(still): i for i, still in enumerate(stills)}
    chosen = [place[id(still)] for still in images.stills]
    return Counted(n_spots[chosen], params.reflections, params.min_spots)


def _find_spots(
    images: Labelled,
    experiments: ExperimentList,
    params: libtbx.phil.scope_extract,
    finding: SpotFinding,
) -> Counted:
    """The spots of the images, found now."""
    nproc = min(get_processes(params.mp.nproc), len(images.stills))
    changes = describe(finding)
    logger.info(
        "Finding spots on %d images, nproc=%d, with\n%s",
        len(images.stills),
        nproc,
        changes or "DIALS's own parameters",
    )
    found = find_on_stills(experiments, images.stills, finding, nproc)
    return counted_now(
        images,
        _with_bar(found, "Finding spots", images.stills),
        changes,
        params.min_spots or finding.min_spots,
    )


def _with_bar(answers: Iterator, title: str, stills: list[Still]) -> list:
    """All the answers, one a still, with a progress bar."""
    # Closed at once when interrupted, so that no process goes on with the rest.
    with contextlib.closing(answers):
        return list(tqdm(answers, title, total=len(stills), unit="image", disable=None))


def _versions() -> dict[str, str]:
    """What the figures were made with."""
    return {
        "dials_cnn_screen": __version__,
        "DIALS": dials_version().removeprefix("DIALS "),
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def _log_results(results: dict) -> None:
    for table in tables(results):
        text = tabulate(
            table.rows,
            headers=table.headers,
            disable_numparse=True,
            colalign=[
                "left" if i < table.n_left else "right"
                for i in range(len(table.headers))
            ],
        )
        logger.info("\n%s\n%s", table.title, text)
        if table.note:
            logger.info("%s", textwrap.fill(table.note, _WIDTH))
    failed = [image for image in results["images"] if image.get("error")]
    for image in failed[:_NAMED]:
        logger.warning(
            "%s [%d] could not be judged by the network and is kept: %s",
            image["file"],
            image["frame"],
            image["error"],
        )
    if len(failed) > _NAMED:
        logger.warning("and %d more, see output.results", len(failed) - _NAMED)


if __name__ == "__main__":
    run()
