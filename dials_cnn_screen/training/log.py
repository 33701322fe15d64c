"""What a training run writes to its log."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from dials.util import tabulate
from numpy.typing import NDArray

from dials_cnn_screen.labels.confusion import confusion_counts
from dials_cnn_screen.labels.label import Label, count_labels
from dials_cnn_screen.labels.splits import Splits, check_splits
from dials_cnn_screen.training.fitting import Fit, Plan
from dials_cnn_screen.training.history import rates
from dials_cnn_screen.training.loop import Epoch, best_epoch
from dials_cnn_screen.training.starting import Start

logger = logging.getLogger("dials.cnn_train")

TITLES = [label.title for label in Label]


def log_start(start: Start) -> None:
    """Model or architecture that training starts from."""
    if start.model is None:
        logger.info("Training architecture %s from fresh weights", start.architecture)
    else:
        logger.info(
            "Starting from model %s (%s), trained on %s",
            start.model.name,
            start.architecture,
            start.model.trained_on,
        )


def log_splits(labels: NDArray[np.int64], splits: Splits, n_images: int) -> None:
    """Images of each class in each split.

    Args:
        labels: int64 (n,), of the labelled images.
        splits: Of the same.
        n_images: Number of images with and without labels.

    Raises:
        ValueError: Nothing can be learned from the splits.
    """
    if len(labels) < n_images:
        logger.info(
            "%d of %d images have no label and are left out",
            n_images - len(labels),
            n_images,
        )
    rows = [
        [name.capitalize(), len(split), *count_labels(labels[split]).values()]
        for name, split in splits._asdict().items()
    ]
    logger.info("\n%s\n", tabulate(rows, headers=["Split", "Images", *TITLES]))
    for remark in check_splits(labels, splits):
        logger.warning("%s; label more of these if you can", remark)


def log_preparation(start: Start, n_images: int, nproc: int, folder: Path) -> None:
    """What is prepared, on how many processes, and where it goes."""
    megabytes = n_images * start.entry.training_bytes(start.preparation) / 1e6
    where = "memory"
    if start.entry.on_disk():
        where = f"a temporary file in {folder}"
    logger.info(
        "Preparing %d images, nproc=%d: %.0f MB in %s",
        n_images,
        nproc,
        megabytes,
        where,
    )


def log_plan(plan: Plan, batches: int, threads: int) -> None:
    """Device and schedule; batches: in an epoch."""
    logger.info(
        "Training on %s, %d thread%s; epochs x batches x images: %d x %d x %d",
        plan.device,
        threads,
        "s" * (threads != 1),
        plan.schedule.epochs,
        batches,
        plan.schedule.batch_size,
    )


def log_epoch(epoch: Epoch) -> None:
    """Losses and success rates."""
    logger.info(
        "Epoch %3d: training loss %.3f, %.1f%% correct; validation loss %.3f, "
        "%.1f%% correct",
        *vars(epoch).values(),
    )


def log_best(history: Sequence[Epoch]) -> None:
    """Which epoch's network is kept, where it is not the last one's."""
    best = best_epoch(list(history)).epoch
    if best < history[-1].epoch:
        logger.info("The network of epoch %d is kept: lowest validation loss", best)


def log_test(result: Fit, labels: NDArray[np.int64]) -> None:
    """Confusion matrix and rates of the test split; labels: (n,), of these images."""
    if not len(labels):
        return
    counts = confusion_counts(labels, result.predicted)
    rows = [[title, *row] for title, row in zip(TITLES, counts, strict=True)]
    logger.info(
        "\nTest split: images by expert label and class predicted by the new model\n%s",
        tabulate(rows, headers=["Expert", *(f"Predicted {x}" for x in TITLES)]),
    )
    rows = [["New model", *rates(labels, result.predicted)]]
    if result.before is not None:
        rows.append(["Starting model", *rates(labels, result.before)])
    logger.info("\nTest split: %% (95%% interval)\n%s", _table_of_rates(rows))
    if result.before is None:
        return
    lost = int(np.sum(result.before == labels) - np.trace(counts))
    if lost > 0:
        logger.warning(
            "The starting model classifies %d more of the %d test images correctly: "
            "keep using it, or label more images",
            lost,
            len(labels),
        )


def log_costs(n_images: int, preparing: float, training: float, peak: float) -> None:
    """Seconds of preparation and training, peak memory in bytes; 0: not known."""
    logger.info(
        "\nPreparation took %.0f s (%.2f s per image), training %.0f s%s",
        preparing,
        preparing / n_images,
        training,
        f"; peak memory {peak / 1e9:.1f} GB" if peak else "",
    )


def _table_of_rates(rows: Iterable[list[str]]) -> str:
    return tabulate(
        rows,
        headers=["", "Hit or Maybe kept", "Miss rejected", "Three classes correct"],
        colalign=("left", "right", "right", "right"),
    )
