# LIBTBX_SET_DISPATCHER_NAME dials.cnn_explain
"""
Show why stills were judged Hit, Maybe or Miss.

For some images, what their class rests on: with the default model, what each spot
candidate adds to the answer; with the paper's network, the pixels to which the loss is
most sensitive. For all of them a map on which images that are alike to the network lie
together, and contact sheets of the most doubtful and, with the labels of an expert, the
wrongly classified.

Writes a page (cnn_explain.html) and the same in numbers (cnn_explain.json).

Examples::

  dials.cnn_explain imported.expt

  dials.cnn_explain imported.expt annotation=labels.txt image=3,17 nearest_to=3

  dials.cnn_explain imported.expt model=ke2018
"""

from __future__ import annotations

import contextlib
import logging
import textwrap
from collections.abc import Sequence

import libtbx.phil
from dials.util import show_mail_handle_errors, tabulate
from dials.util.options import ArgumentParser, flatten_experiments
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen.explain.embedding import check_scikit_learn
from dials_cnn_screen.explain.reasons import Reason, find_reason
from dials_cnn_screen.explain.report import write_explanation
from dials_cnn_screen.explain.results import (
    Look,
    by_doubt,
    choose_images,
    gather,
    look,
    wrong,
)
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.run import choose_device, screen
from dials_cnn_screen.screening.summary import write_json
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.program import CITATION, parse, user_errors

logger = logging.getLogger("dials.cnn_explain")

phil_scope = load_scope("cnn_explain")

# Characters in a line of the log.
_WIDTH = 80
# Images that are explained where none are named.
_DOUBTFUL = 3


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_explain with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_explain [options] imported.expt | image files",
        phil=phil,
        read_experiments=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_explain")
        _explain(list_stills(flatten_experiments(params.input.experiments)), params)


def _explain(stills: list[Still], params: libtbx.phil.scope_extract) -> None:
    if not stills:
        raise ValueError("no images: give an .expt file from dials.import, or images")
    check_scikit_learn()
    check_outputs(params.output.html, params.output.json, params.output.log)
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    named = _named_images(params, len(stills))
    labels = _labels(stills, params.annotation)
    model = load_model(params.model)
    device = choose_device(params.device)
    logger.info(
        "Model %s (%s), trained on %s", model.name, model.architecture, model.trained_on
    )
    indices = choose_images(len(stills), params.max_images, named, params.random_seed)
    if len(indices) < len(stills):
        logger.warning(
            "Looking at %d of %d images, drawn at random; raise max_images for more",
            len(indices),
            len(stills),
        )
    looks = _look([stills[i] for i in indices], model, device, params.mp.nproc)
    results = gather(looks, indices, stills, labels, model, params.random_seed)
    if results["summary"]["failed"] == len(indices):
        raise ValueError(
            f"not one of the {len(indices)} images could be judged; the first, "
            f"{stills[indices[0]].file}: {looks[0].judgement.error}"
        )
    _log_results(results, params.nearest_to)
    reasons = _find_reasons(results, stills, model, params.image)
    _write(results, looks, reasons, stills, params)
    logger.info("\nPlease cite: %s", CITATION)


def _named_images(params: libtbx.phil.scope_extract, n: int) -> list[int]:
    """Images that the user names; ValueError for one that is not there."""
    named = [("image", i) for i in params.image or []]
    if params.nearest_to is not None:
        named.append(("nearest_to", params.nearest_to))
    for name, index in named:
        if index >= n:
            raise ValueError(f"{name}={index}: there are {n} images, 0 to {n - 1}")
    return sorted({index for _, index in named})


def _labels(stills: list[Still], annotation: list[str | None]) -> dict[int, Label]:
    """The expert's labels by index; empty without annotation files."""
    if not any(annotation):
        return {}
    by_still = {id(still): index for index, still in enumerate(stills)}
    return {
        by_still[id(still)]: label for still, label in match_labels(stills, annotation)
    }


def _look(
    stills: list[Still], model: Model, device: str, nproc: int | None
) -> list[Look]:
    nproc = min(get_processes(nproc), len(stills))
    logger.info("Looking at %d images on %s, nproc=%d", len(stills), device, nproc)
    # Closed at once when interrupted, so that no process goes on with the rest.
    with contextlib.closing(screen(stills, model, device, nproc, look)) as looks:
        return list(
            tqdm(looks, desc="Looking", total=len(stills), unit="image", disable=None)
        )


def _log_results(results: dict, nearest_to: int | None) -> None:
    images = results["images"]
    names = {label.title: label.name.lower() for label in Label}
    names["Could not be judged"] = "failed"
    rows = [[title, results["summary"][name]] for title, name in names.items()]
    logger.info("\n%s", tabulate(rows, headers=["Class", "Images"]))
    for image in images:
        if image["error"] is not None:
            logger.warning(
                "%s [%d] could not be judged: %s",
                image["file"],
                image["frame"],
                image["error"],
            )
    if results["summary"]["labelled"]:
        for kind, wrongly in wrong(results).items():
            logger.info("%s: %d", kind, len(wrongly))
    if results["map"]["missing"]:
        logger.warning("No map: %s", results["map"]["missing"])
    alone = [image["index"] for image in images if not image["nearest"]]
    if nearest_to in alone:
        logger.warning(
            "nearest_to=%d: it, or every other image, could not be judged", nearest_to
        )


def _find_reasons(
    results: dict, stills: list[Still], model: Model, wanted: Sequence[int] | None
) -> list[Reason]:
    """Explain the wanted images that were judged, or the most doubtful ones."""
    if wanted is None:
        chosen = by_doubt(results)[:_DOUBTFUL]
    else:
        judged = {image["index"]: image for image in by_doubt(results)}
        chosen = [judged[i] for i in dict.fromkeys(wanted) if i in judged]
    reasons = []
    for image in chosen:
        reason = find_reason(image, stills[image["index"]], model)
        image["reason"] = reason.numbers
        logger.info(
            "\n%s [%d] (index %d), %s: Hit %.3f, Maybe %.3f, Miss %.3f\n%s",
            image["file"],
            image["frame"],
            image["index"],
            image["class"],
            image["p_hit"],
            image["p_maybe"],
            image["p_miss"],
            textwrap.fill(" ".join(reason.words), _WIDTH),
        )
        reasons.append(reason)
    return reasons


def _write(
    results: dict,
    looks: list[Look],
    reasons: list[Reason],
    stills: list[Still],
    params: libtbx.phil.scope_extract,
) -> None:
    outputs = params.output
    if outputs.json is not None:
        write_json(outputs.json, results)
        logger.info("\nSaved the numbers to %s", outputs.json)
    if outputs.html is not None:
        write_explanation(
            outputs.html, results, looks, reasons, params.nearest_to, stills, CITATION
        )
        logger.info("Saved the page to %s", outputs.html)


if __name__ == "__main__":
    run()
