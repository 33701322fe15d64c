"""What a screening run says in its log."""

from __future__ import annotations

import logging
import textwrap

from dials.util import tabulate

from dials_cnn_screen.models.model import Model
from dials_cnn_screen.outputs.rates import list_rates
from dials_cnn_screen.outputs.recurring import format_recurring
from dials_cnn_screen.outputs.rings import format_rings
from dials_cnn_screen.screening.results import ScreeningResults
from dials_cnn_screen.util.intervals import format_interval

logger = logging.getLogger("dials.cnn_screen")

# Characters in a line of the log.
WIDTH = 80
# Images that a line of the log names of many; all are in the scores file.
NAMED = 5
# Files whose hit rates are in the log; all are in the scores file.
LISTED = 20


def log_model(model: Model) -> None:
    """Name, architecture and training of the model."""
    logger.info(
        "Model %s (%s), trained on %s", model.name, model.architecture, model.trained_on
    )


def log_text(text: str) -> None:
    """A paragraph in lines of the log's width."""
    logger.info("%s", textwrap.fill(text, WIDTH))


def log_failures(results: ScreeningResults) -> None:
    """The images that could not be classified, a line each up to a few."""
    names = results.display_names()
    failed = [
        (name, image.error)
        for name, image in zip(names, results.images, strict=True)
        if image.prediction is None
    ]
    for name, error in failed[:NAMED]:
        logger.warning("%s could not be classified and is kept: %s", name, error)
    if len(failed) > NAMED:
        logger.warning(
            "%d more images could not be classified and are kept; the JSON file names "
            "them",
            len(failed) - NAMED,
        )


def log_hit_rates(results: ScreeningResults) -> None:
    """The hit rate of each file, a row each up to some; nothing where there is one."""
    rates = results.hit_rates()
    if len(rates) < 2:
        return
    rows = [
        [
            rate.source,
            rate.images,
            rate.hits,
            f"{rate.percent:.1f}",
            format_interval(*rate.interval).strip("()"),
        ]
        for rate in rates[:LISTED]
    ]
    table = tabulate(
        rows,
        headers=["File", "Images", "Hits", "%", "95% interval"],
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "right"),
    )
    logger.info("\n%s", table)
    if len(rates) > LISTED:
        logger.info("and %d more files; the scores file has all", len(rates) - LISTED)


def log_results(results: ScreeningResults, elapsed: float, n_before: int = 0) -> None:
    """Table of rates, what went wrong, speed.

    Args:
        results: Of the run.
        elapsed: Seconds that it took.
        n_before: Images that were classified before it was resumed.
    """
    if text := format_not_reached(results):
        logger.warning("\n%s", text)
    table = tabulate(
        [
            [
                rate.title,
                rate.count,
                f"{rate.percent:.1f}",
                format_interval(*rate.interval).strip("()"),
            ]
            for rate in list_rates(results)
        ],
        headers=["Class", "Images", "%", "95% interval"],
        disable_numparse=True,
        colalign=("left", "right", "right", "right"),
    )
    logger.info("\n%s", table)
    log_hit_rates(results)
    if text := format_estimate(results):
        log_text(text)
    log_failures(results)
    log_out_of_distribution(results)
    for text in format_recurring(results.recurring):
        log_text(text)
    if text := format_rings(results):
        log_text(text)
    if n := len(results.audited):
        log_text(
            f"{n} of {results.kept.count(False) + n} rejected images are kept at "
            "random, for an audit. Label them all, and dials.cnn_evaluate "
            "scores=cnn_screen.json annotation=labels.txt gives an upper limit of the "
            "hits among the rejected."
        )
    if not results.classified:
        return
    reading, preparing, classifying = 1e3 * results.mean_seconds()
    logger.info(
        "\n%.1f images/s. Mean time per image: %.1f ms to read, %.1f ms to prepare, "
        "%.1f ms to classify",
        (len(results.images) - n_before) / elapsed,
        reading,
        preparing,
        classifying,
    )


def format_estimate(results: ScreeningResults) -> str:
    """What is to be expected of the run; empty where that is not known."""
    if (estimate := results.estimate) is None:
        return ""
    hit, maybe, miss = (100 * estimate.shares).tolist()
    text = (
        f"By the probabilities of all images about {hit:.1f}% are Hits, {maybe:.1f}% "
        f"Maybes and {miss:.1f}% Misses"
    )
    if estimate.loss is None:
        return (
            f"{text}: an estimate without labels, which takes account of how common "
            "hits are here, and is right where the model is."
        )
    return (
        f"{text}, and of the Hits and Maybes about {100 * estimate.loss:.1f}% are not "
        "kept: an estimate, which is right where the eye is. A lower "
        "decision.threshold keeps more."
    )


def format_not_reached(results: ScreeningResults) -> str:
    """That the run was interrupted, a sentence; empty where it was not."""
    if not results.not_reached:
        return ""
    n = len(results.images)
    return (
        f"The run was interrupted: this is of {n} of {n + results.not_reached} images"
    )


def log_out_of_distribution(results: ScreeningResults) -> None:
    """How many images are out of distribution, and some of their names."""
    far = results.out_of_distribution
    if not far:
        return
    display = dict(
        zip(
            [image.name for image in results.images],
            results.display_names(),
            strict=True,
        )
    )
    names = [str(display[image.name]) for image in far[:NAMED]]
    if len(far) > NAMED:
        names.append("...")
    logger.warning("\n%s: %s", format_out_of_distribution(results), ", ".join(names))


def format_out_of_distribution(results: ScreeningResults) -> str:
    """How many images are out of distribution, a sentence; empty if none are."""
    n, total = len(results.out_of_distribution), len(results.images)
    if not n:
        return ""
    are, they = ("is", "It is") if n == 1 else ("are", "They are")
    return (
        f"{n} of {total} images {are} out of the distribution of the model's training. "
        f"{they} kept, since the model's prediction means little there; look at "
        f"{'it' if n == 1 else 'them'}"
    )
