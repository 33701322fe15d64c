"""What became of every image that was given to a run of the veto."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, decide
from dials_cnn_screen.screening.veto_record import Parts
from dials_cnn_screen.util.intervals import format_percent

logger = logging.getLogger("dials.cnn_screen.veto")

_LISTED = 20  # images in the log; all of them are in the scores

ENDED = "its process ended early, perhaps for want of memory; see the log"


@dataclass(frozen=True)
class Account:
    """What became of every image.

    Attributes:
        images: The results for all, in order of the names; one that could not be read,
            or was not reached, could not be classified.
        classified: Those that the model saw, or at which it failed.
        failed: Why images could not be processed.
        not_reached: Why images were not reached.
    """

    images: list[ImageResult]
    classified: list[ImageResult]
    failed: dict[ImageName, str]
    not_reached: dict[ImageName, str]


def account_for(
    given: list[ImageName],
    parts: Parts,
    stopped: str | None,
    decision: Decision,
    composite: bool,
) -> Account:
    """What became of the images that were given.

    Args:
        given: Names, each once.
        parts: What the processes said.
        stopped: Why the run ended early, where it did.
        decision: By which images are kept.
        composite: DIALS writes the files of a process at its end, as with
            output.composite_output.
    """
    why = next(iter([*parts.stopped, *filter(None, [stopped])]), ENDED)
    lost = dict.fromkeys(parts.lost if composite else [], f"its files are lost: {why}")
    failed = lost | parts.failed
    reached = parts.classified.keys() | failed.keys()
    not_reached = {n: f"not reached: {why}" for n in given if n not in reached}
    errors = failed | not_reached
    images = [
        parts.classified.get(name) or decide(name, None, errors[name], decision)
        for name in sorted({*given, *reached})
    ]
    classified = [image for image in images if image.name in parts.classified]
    return Account(images, classified, failed, not_reached)


def log_account(account: Account) -> None:
    """Log on how many images spot finding ran, and those that were left out."""
    n, kept = len(account.classified), sum(i.kept for i in account.classified)
    logger.info(
        "Spot finding ran on %d of %d images, %% with 95%% interval %s; %d could not "
        "be classified",
        kept,
        n,
        format_percent(kept, n),
        sum(image.prediction is None for image in account.classified),
    )
    left_out = account.failed | account.not_reached
    for name in sorted(left_out)[:_LISTED]:
        logger.error("%s: %s", name, left_out[name])
    if len(left_out) > _LISTED:
        logger.error("and %d images more", len(left_out) - _LISTED)


def format_left_out(account: Account) -> list[str]:
    """How many images were not processed, and why the first of them."""
    told = []
    for what, images in (
        ("could not be processed", account.failed),
        ("were not reached", account.not_reached),
    ):
        if images:
            first = min(images)
            why = images[first].removeprefix("not reached: ")
            told.append(
                f"{len(images)} of {len(account.images)} images {what} ({first}: {why})"
            )
    return told
