"""What dials.cnn_explain does: which images, their classes, their reasons, the log."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from dials.util import tabulate

from dials_cnn_screen.explain.reasons import Reason, find_reason
from dials_cnn_screen.explain.results import MapResults, Screened, collect_results
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import short_names
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.outputs.log import WIDTH
from dials_cnn_screen.outputs.pictures import thumbnail
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import FAILED, ModelSummary
from dials_cnn_screen.screening.run import (
    Screener,
    choose_device,
    screen,
    screen_frame,
)
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import count_processes

logger = logging.getLogger("dials.cnn_explain")

# Images that are explained where none are named.
_MOST_DOUBTFUL = 3


def list_named(image: Sequence[int] | None, nearest_to: int | None, n: int) -> set[int]:
    """The images that image= and nearest_to= name, of n that are given.

    Raises:
        ValueError: One is not among them.
    """
    named = [("image", i) for i in image or []]
    if nearest_to is not None:
        named.append(("nearest_to", nearest_to))
    for parameter, index in named:
        if index >= n:
            raise ValueError(f"{parameter}={index}: there are {n} images, 0 to {n - 1}")
    return {index for _, index in named}


def choose_images(n: int, most: int, always: Collection[int], seed: int) -> list[int]:
    """Indices of the images to screen, in order: all n, or so many drawn at random.

    Args:
        n: Images given.
        most: To be screened.
        always: Indices that are among them whatever is drawn.
        seed: Of the draw.
    """
    if n <= most:
        return list(range(n))
    others = np.setdiff1d(np.arange(n), list(always))
    n_drawn = max(most - len(set(always)), 0)
    drawn = np.random.default_rng(seed).choice(others, n_drawn, replace=False)
    logger.warning(
        "Screening %d of %d images, drawn at random; raise max_images for more",
        most,
        n,
    )
    return sorted({*always, *drawn.tolist()})


def screen_images(
    stills: Sequence[Still],
    indices: Sequence[int],
    labels: Mapping[int, Label],
    model: Model,
    device: str,
    nproc: Any,
    seed: int,
) -> MapResults:
    """Classify some of the stills and put them on a map.

    Args:
        stills: All that were given.
        indices: Of those to classify.
        labels: The expert's, by index.
        model: That classifies them.
        device: auto, cpu or cuda.
        nproc: Number of processes, or Auto.
        seed: Of the map.

    Raises:
        ValueError: None could be classified.
    """
    device = choose_device(device)
    nproc = count_processes(nproc, len(indices))
    n = len(indices)
    logger.info(
        "Screening %d image%s on %s, nproc=%d", n, "s" * (n != 1), device, nproc
    )
    chosen = [stills[index] for index in indices]
    screened = screen(chosen, model, device, Decision(), nproc, screen_with_thumbnail)
    results = collect_results(
        indices,
        stills,
        list(track(screened, "Screening", n)),
        labels,
        short_names([still.name for still in stills]),
        ModelSummary.of(model),
        seed,
    )
    if not results.classified:
        first = results.images[0]
        raise ValueError(
            f"none of the {n} images could be classified; the first, {first.name}: "
            f"{first.result.error}"
        )
    return results


def screen_with_thumbnail(screener: Screener, still: Still) -> Screened:
    """Classify one still, and make a thumbnail of its frame."""
    result, frame = screen_frame(screener, still)
    return Screened(result, None if frame is None else thumbnail(frame))


def log_results(results: MapResults, nearest_to: int | None) -> None:
    """Classes, labels that are not met, and what there is none of and why."""
    summary = results.summary()
    rows = [[label.title, summary[label.key]] for label in Label]
    rows.append([FAILED, summary["failed"]])
    logger.info("\n%s", tabulate(rows, headers=["Class", "Images"]))
    for image in results.failed:
        logger.warning("%s could not be classified: %s", image.name, image.result.error)
    if results.labelled:
        for title, images in results.misclassified().items():
            logger.info("%s: %d", title, len(images))
    if results.no_map:
        logger.warning("No map: %s", results.no_map)
    alone = [image.index for image in results.images if not image.nearest]
    if nearest_to in alone:
        logger.warning(
            "nearest_to=%d: this image, or every other one, could not be classified",
            nearest_to,
        )


def find_reasons(
    results: MapResults, model: Model, wanted: Sequence[int] | None
) -> list[Reason]:
    """Explain the images of these indices, or the most doubtful ones, and log it.

    Those that could not be classified are left out.
    """
    chosen = results.by_doubt()[:_MOST_DOUBTFUL]
    if wanted is not None:
        classified = {image.index: image for image in results.classified}
        chosen = [classified[i] for i in dict.fromkeys(wanted) if i in classified]
    reasons, source = [], Source()
    for image in chosen:
        reason = find_reason(image, model, source)
        _log_reason(reason)
        reasons.append(reason)
    return reasons


def _log_reason(reason: Reason) -> None:
    """The class of an image, its probabilities, and why."""
    p_hit, p_maybe, p_miss = reason.prediction.probabilities
    logger.info(
        "\n%s (index %d), %s: P(Hit) %.3f, P(Maybe) %.3f, P(Miss) %.3f\n%s",
        reason.image.name,
        reason.image.index,
        reason.prediction.label.title,
        p_hit,
        p_maybe,
        p_miss,
        textwrap.fill(" ".join(reason.sentences), WIDTH),
    )
