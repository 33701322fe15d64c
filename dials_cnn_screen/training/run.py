"""From labelled stills to a fitted model: split, prepare, train, test."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from libtbx import Auto
from tqdm import tqdm

from dials_cnn_screen import __version__
from dials_cnn_screen.architecture import TrainingSet
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import short_names
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening.run import choose_device
from dials_cnn_screen.training import log
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import (
    Fit,
    Plan,
    checkpoint_of,
    fit,
    fitted_model,
)
from dials_cnn_screen.training.history import summarise
from dials_cnn_screen.training.loop import Epoch, batches_per_epoch
from dials_cnn_screen.training.parameters import Parameters
from dials_cnn_screen.training.preparing import prepare_stills
from dials_cnn_screen.training.splitting import split_labelled
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_anew,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.program import peak_memory
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads
from dials_cnn_screen.util.workers import count_processes

logger = logging.getLogger("dials.cnn_train")


class Trained(NamedTuple):
    """The result of a training run.

    Attributes:
        model: The fitted model.
        history: All epochs.
        summary: Of the run, JSON values.
    """

    model: Model
    history: list[Epoch]
    summary: dict[str, Any]


def train_on_stills(
    stills: Sequence[Still], params: Parameters, name: str, checkpoint_file: Path
) -> Trained:
    """Train on the labelled ones of the stills.

    Args:
        stills: With and without labels.
        params: Of dials.cnn_train.
        name: Of the model.
        checkpoint_file: Saved after each epoch. Where it exists the run resumes from
            it. Its folder takes a training set that is on disk.

    Raises:
        ValueError: A parameter, label or image can't be used; the message has a remedy.
    """
    plan = make_plan(params)
    names = [still.name for still in stills]
    labelled, splits = split_labelled(
        names, params.annotation, params.split, params.training.random_seed
    )
    labels = np.array(list(labelled.values()), np.int64)
    log.log_splits(labels, splits, len(stills))
    if not params.training.resume:
        checkpoint_file.unlink(missing_ok=True)
    nproc = count_processes(params.mp.nproc, len(labels))
    folder = checkpoint_file.resolve().parent
    log.log_preparation(plan.start, len(labels), nproc, folder)

    clock = [time.monotonic()]
    data = prepare_stills(
        [stills[i] for i in labelled],
        list(labelled.values()),
        plan.start.entry,
        plan.start.preparation,
        nproc,
        folder,
    )
    clock.append(time.monotonic())
    result = _fit(plan, data, splits, nproc, checkpoint_file)
    clock.append(time.monotonic())

    log.log_test(result, labels[splits.test])
    preparing, training = np.diff(clock).tolist()
    log.log_costs(len(labels), preparing, training, peak_memory() or 0)
    short = short_names(names)
    files = sorted({short[i].path for i in labelled})
    summary = {
        "version": __version__,
        **summarise(plan, result, labels, splits),
        "seconds": {"preparing": preparing, "training": training},
    }
    model = fitted_model(plan, result, name, files, splits)
    return Trained(model, result.history, summary)


def make_plan(params: Parameters) -> Plan:
    """What training starts from and how it goes, as the parameters have it."""
    training = params.training
    start = _begin(params)
    log.log_start(start)
    return Plan(
        start,
        choose_schedule(start, training.schedule, training.changes()),
        params.augmentation,
        training.random_seed,
        choose_device(params.device),
    )


def _begin(params: Parameters) -> Start:
    """Seed torch and make the network."""
    architecture = None if params.architecture is Auto else params.architecture
    contrast = None if params.contrast == "auto" else params.contrast
    model = params.start_from
    if model is Auto:
        is_default = architecture in (None, load_model(DEFAULT).architecture)
        model = DEFAULT if is_default else None
    torch.manual_seed(params.training.random_seed)
    if model is not None:
        return begin_from(model, architecture, contrast)
    if architecture is None:
        raise ValueError(
            "start_from=None: name the network to train from fresh weights, such as "
            "architecture=ke2018"
        )
    return begin_anew(architecture, contrast)


def _fit(
    plan: Plan, data: TrainingSet, splits: Splits, nproc: int, checkpoint_file: Path
) -> Fit:
    """Fit on nproc threads, from the checkpoint if there is one."""
    use_threads(nproc)
    if plan.start.entry.on_disk() and plan.device == "cpu":
        keep_freed_memory()
    checkpoint = checkpoint_of(checkpoint_file, plan, data, splits)
    try:
        result = _fit_with_progress(plan, data, splits, checkpoint)
    except KeyboardInterrupt:
        if checkpoint_file.is_file():
            logger.info("The same command resumes from %s", checkpoint_file)
        raise
    log.log_best(result.history)
    return result


def _fit_with_progress(
    plan: Plan, data: TrainingSet, splits: Splits, checkpoint: Checkpoint
) -> Fit:
    """Fit with a progress bar by batch, and a line for each epoch."""
    batches = batches_per_epoch(plan.schedule, len(splits.training))
    state = checkpoint.load()
    done = state["history"][-1]["epoch"] if state else 0
    if done:
        logger.info("Resuming after epoch %d, from %s", done, checkpoint.path)
    log.log_plan(plan, batches, torch.get_num_threads())
    with tqdm(
        desc="Training",
        total=plan.schedule.epochs * batches,
        initial=done * batches,
        unit="batch",
        disable=None,
    ) as bar:

        def show(loss: float, success: float) -> None:
            text = f"loss {loss:.3f}, {success:.0f}% correct"
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        def report(epoch: Epoch) -> None:
            with bar.external_write_mode():
                log.log_epoch(epoch)

        return fit(plan, data, splits, report, show, checkpoint)
