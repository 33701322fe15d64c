# LIBTBX_SET_DISPATCHER_NAME dials.cnn_train
"""
Train a network on stills that an expert has labelled Hit, Maybe or Miss.

Labels stand in annotation files, one line an image, such as 'r0027_2000.h5 [1] MISS'.
Training starts from the default model and fits it to these labels: a hundred are enough
and it takes minutes. With start_from=None architecture=ke2018 the paper's network is
trained from nothing, for which some thousand labels and hours are better.

The images are split into a training, a validation and a test part; the best network by
the validation part is written, and judged by the test part. A run that was killed goes
on where it stopped when it is started again.

Examples::

  dials.cnn_train imported.expt annotation=labels.txt

  dials.cnn_train a.expt b.expt annotation=a.txt annotation=b.txt split.method=position

  dials.cnn_train imported.expt annotation=labels.txt architecture=ke2018 \\
      training.schedule=paper device=cuda

  dials.cnn_screen other.expt model=model.safetensors
"""

from __future__ import annotations

# Before cctbx, or it has one thread only: see threads.py.
import torch  # isort: skip

import logging
import time
from functools import partial
from pathlib import Path

import libtbx.phil
import numpy as np
from dials.util import show_mail_handle_errors, tabulate
from dials.util.options import ArgumentParser, flatten_experiments
from libtbx import Auto
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen import __version__
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import Augmentation, Dataset
from dials_cnn_screen.labels.confusion import confusion_counts
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import (
    match_given_parts,
    match_labels,
    position_groups,
)
from dials_cnn_screen.labels.splits import (
    Parts,
    check_parts,
    count_classes,
    split_at_random,
    split_by_position,
)
from dials_cnn_screen.models.model_file import Model, save_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.run import choose_device
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import (
    Fit,
    Plan,
    checkpoint_of,
    fit,
    fitted_model,
)
from dials_cnn_screen.training.history import (
    check_picture,
    draw_history,
    rates,
    summarise,
    write_history,
)
from dials_cnn_screen.training.loop import Epoch, LabelledFrames, best_epoch
from dials_cnn_screen.training.preparing import Labelled, bytes_each, prepare_stills
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_anew,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.program import CITATION, parse, peak_memory, user_errors
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads

logger = logging.getLogger("dials.cnn_train")

phil_scope = load_scope("cnn_train")


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_train with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_train [options] imported.expt annotation=labels.txt",
        phil=phil,
        read_experiments=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_train")
        stills = list_stills(flatten_experiments(params.input.experiments))
        _train(stills, params)


def _train(stills: list[Still], params: libtbx.phil.scope_extract) -> None:
    """Train on the labelled stills and write what was asked for."""
    if not stills:
        raise ValueError("no images: give an .expt file from dials.import, or images")
    outputs = params.output
    if outputs.model is None:
        raise ValueError("output.model=None: the model needs a file to go to")
    checkpoint_file = Path(f"{outputs.model}.checkpoint")
    check_outputs(
        outputs.model, checkpoint_file, outputs.history, outputs.plot, outputs.log
    )
    if outputs.plot is not None:
        check_picture(outputs.plot)
    plan = _plan(params)
    labelled, parts = _share_out(stills, params)
    labels = np.array([int(label) for _, label in labelled])
    _log_parts(labels, parts, len(stills))
    nproc = get_processes(params.mp.nproc)
    if not params.training.resume:
        checkpoint_file.unlink(missing_ok=True)

    clock = [time.monotonic()]
    data = _prepare(labelled, plan.start, nproc, checkpoint_file.resolve().parent)
    clock.append(time.monotonic())
    use_threads(nproc)
    if isinstance(data, Dataset) and plan.device == "cpu":
        keep_freed_memory()
    checkpoint = checkpoint_of(checkpoint_file, plan, data, parts)
    try:
        result = _fit(plan, data, parts, checkpoint)
    except KeyboardInterrupt:
        if checkpoint_file.is_file():
            logger.info("The same command goes on from %s", checkpoint_file)
        raise
    clock.append(time.monotonic())

    _log_test(result, labels[parts.test])
    preparing, training = np.diff(clock).tolist()
    _log_costs(preparing / len(labels), preparing, training)
    files = sorted({still.file for still, _ in labelled})
    model = fitted_model(plan, result, Path(outputs.model).stem, files, parts)
    course = {
        "version": __version__,
        **summarise(plan, result, labels, parts),
        "seconds": {"preparing": preparing, "training": training},
    }
    _write(outputs, model, result, course)
    checkpoint_file.unlink(missing_ok=True)
    logger.info("\nPlease cite: %s", CITATION)


def _plan(params: libtbx.phil.scope_extract) -> Plan:
    """What training begins with and how it goes, as the parameters have it."""
    options = _plain(params.training)
    seed, name = options.pop("random_seed"), options.pop("schedule")
    del options["resume"]
    torch.manual_seed(seed)
    start = _begin(params)
    if start.model is None:
        logger.info("Training architecture %s from fresh weights", start.architecture)
    else:
        logger.info(
            "Training starts from model %s (%s), trained on %s",
            start.model.name,
            start.architecture,
            start.model.trained_on,
        )
    return Plan(
        start,
        choose_schedule(start, name, options),
        Augmentation(**_plain(params.augmentation)),
        seed,
        choose_device(params.device),
    )


def _plain(scope: libtbx.phil.scope_extract) -> dict:
    """The parameters of a scope by name."""
    return {k: v for k, v in vars(scope).items() if not k.startswith("__")}


def _begin(params: libtbx.phil.scope_extract) -> Start:
    architecture, contrast = (
        None if choice == "auto" else choice
        for choice in (params.architecture, params.contrast)
    )
    model = params.start_from
    if model is Auto:
        model = DEFAULT if architecture in (None, "spots") else None
    if model is not None:
        return begin_from(model, architecture, contrast)
    if architecture is None:
        raise ValueError(
            "start_from=None: name the network that is to begin with fresh weights, "
            "such as architecture=ke2018"
        )
    return begin_anew(architecture, contrast)


def _share_out(
    stills: list[Still], params: libtbx.phil.scope_extract
) -> tuple[Labelled, Parts]:
    """The labelled stills, and which of them are for what."""
    how = params.split
    given = [*filter(None, how.validation), *filter(None, how.test)]
    if how.method == "given":
        if not any(how.validation):
            raise ValueError("split.method=given: name the split.validation file too")
        return match_given_parts(stills, params.annotation, how.validation, how.test)
    if given:
        raise ValueError(
            f"split.validation and split.test are for split.method=given, and it is "
            f"{how.method}; leave {given[0]} out, or set split.method=given"
        )
    if how.fractions is None:
        raise ValueError("split.fractions=None: give three, such as 0.5,0.2,0.3")
    labelled = match_labels(stills, params.annotation)
    if how.method == "position":
        return labelled, split_by_position(position_groups(labelled), how.fractions)
    labels = np.array([int(label) for _, label in labelled])
    return labelled, split_at_random(labels, how.fractions, params.training.random_seed)


def _log_parts(labels: np.ndarray, parts: Parts, n_stills: int) -> None:
    """Images of each class in each part; ValueError where they teach nothing."""
    if len(labels) < n_stills:
        logger.info(
            "%d of %d images have no label and are left out",
            n_stills - len(labels),
            n_stills,
        )
    rows = [
        [name.capitalize(), len(part), *count_classes(labels[part]).values()]
        for name, part in parts._asdict().items()
    ]
    titles = [label.title for label in Label]
    logger.info("\n%s\n", tabulate(rows, headers=["Part", "Images", *titles]))
    for remark in check_parts(labels, parts):
        logger.warning("%s; label more of these, if there are", remark)


def _prepare(
    labelled: Labelled, start: Start, nproc: int, folder: Path
) -> LabelledFrames:
    megabytes = len(labelled) * bytes_each(start.preprocessing) / 1e6
    nproc = min(nproc, len(labelled))
    logger.info(
        "Preparing %d images once, nproc=%d: %.0f MB %s",
        len(labelled),
        nproc,
        megabytes,
        f"in a file in {folder}, for the time of the training"
        if isinstance(start.preprocessing, Preprocessing)
        else "in memory",
    )
    track = partial(
        tqdm, desc="Preparing", total=len(labelled), unit="image", disable=None
    )
    return prepare_stills(labelled, start.preprocessing, nproc, folder, track)


def _fit(plan: Plan, data: LabelledFrames, parts: Parts, checkpoint: Checkpoint) -> Fit:
    """Fit with a progress bar and a line for each epoch."""
    per_epoch, epochs = plan.schedule.batches, plan.schedule.epochs
    state = checkpoint.load()
    done = state["history"][-1]["epoch"] if state else 0
    if done:
        logger.info("Going on after epoch %d, from %s", done, checkpoint.path)
    logger.info(
        "Training for %d epochs of %d batches of %d images on %s, %d threads",
        epochs,
        per_epoch,
        plan.schedule.batch_size,
        plan.device,
        torch.get_num_threads(),
    )
    with tqdm(
        desc="Training",
        total=epochs * per_epoch,
        initial=done * per_epoch,
        unit="batch",
        disable=None,
    ) as bar:

        def show(loss: float, success: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3f}, {success:.0f}% right", refresh=False)
            bar.update()

        def log(epoch: Epoch) -> None:
            with bar.external_write_mode():
                _log_epoch(epoch)

        result = fit(plan, data, parts, log, show, checkpoint)
    best = best_epoch(result.history)
    if best.epoch < result.history[-1].epoch:
        logger.info("The network of epoch %d is the best by validation", best.epoch)
    return result


def _log_epoch(epoch: Epoch) -> None:
    logger.info(
        "Epoch %3d: loss %.3f, training %.1f%%; validation loss %.3f, %.1f%%",
        *vars(epoch).values(),
    )


def _log_test(result: Fit, labels: np.ndarray) -> None:
    if not len(labels):
        return
    titles = [label.title for label in Label]
    counts = confusion_counts(labels, result.predicted)
    rows = [[title, *row] for title, row in zip(titles, counts, strict=True)]
    logger.info(
        "\nTest part, images by expert and by the new model\n%s",
        tabulate(rows, headers=["Expert", *(f"Called {x}" for x in titles)]),
    )
    rows = [["this model", *rates(labels, result.predicted)]]
    if result.before is not None:
        rows.append(["what it started from", *rates(labels, result.before)])
    logger.info(
        "\nTest part, %% with 95%% intervals\n%s",
        tabulate(
            rows,
            headers=["", "Hit or Maybe kept", "Miss rejected", "Three classes right"],
            colalign=("left", "right", "right", "right"),
        ),
    )
    if result.before is not None:
        lost = int(np.sum(result.before == labels) - np.trace(counts))
        if lost > 0:
            logger.warning(
                "The model that training started from has %d more of %d right: stay "
                "with it, or label more",
                lost,
                len(labels),
            )


def _log_costs(each: float, preparing: float, training: float) -> None:
    """Seconds for an image, for all, and for the training; memory."""
    peak = peak_memory()
    logger.info(
        "\nPreparing took %.0f s, %.2f s an image, and training %.0f s%s",
        preparing,
        each,
        training,
        f"; up to {peak / 1e9:.1f} GB of memory" if peak else "",
    )


def _write(
    outputs: libtbx.phil.scope_extract, model: Model, result: Fit, course: dict
) -> None:
    save_model(outputs.model, model)
    logger.info("Saved the model to %s", outputs.model)
    if outputs.history is not None:
        write_history(outputs.history, course)
        logger.info("Saved the course of the training to %s", outputs.history)
    if outputs.plot is not None:
        draw_history(outputs.plot, result.history, f"Training of {model.name}")
        logger.info("Saved its picture to %s", outputs.plot)


if __name__ == "__main__":
    run()
