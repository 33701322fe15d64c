# LIBTBX_SET_DISPATCHER_NAME dials.cnn_train
"""
Train a network on stills that an expert has labelled Hit, Maybe or Miss.

Labels stand in annotation files, one line an image, such as 'r0027_2000.h5 [1] MISS'.
The images are split at random into a training, a validation and a test part; the best
network by the validation part is written, and judged by the test part.

Examples::

  dials.cnn_train imported.expt annotation=labels.txt

  dials.cnn_screen other.expt model=model.safetensors
"""

from __future__ import annotations

# Before cctbx, or it has one thread only: see threads.py.
import torch  # isort: skip

import logging
import tempfile
from pathlib import Path

import libtbx.phil
import numpy as np
from dials.util import show_mail_handle_errors, tabulate
from dials.util.options import ArgumentParser, flatten_experiments
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen.annotated import match_labels
from dials_cnn_screen.dataset import (
    Dataset,
    allocate_images,
    as_stored,
    split,
    wide,
)
from dials_cnn_screen.files import check_writable
from dials_cnn_screen.frames import read_frame
from dials_cnn_screen.kernels import cpu
from dials_cnn_screen.labels import Label
from dials_cnn_screen.metrics import (
    confusion_counts,
    hit_or_miss,
    row_percent,
    success_rate,
)
from dials_cnn_screen.model_file import Model, save_model
from dials_cnn_screen.network import build_network
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.preprocessing import Preprocessing
from dials_cnn_screen.program import CITATION, parse, user_errors
from dials_cnn_screen.screening import check_judgeable
from dials_cnn_screen.stills import Still, list_stills
from dials_cnn_screen.threads import use_threads
from dials_cnn_screen.training import (
    Epoch,
    Schedule,
    calibrate,
    class_scores,
    train,
)

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
    if not stills:
        raise ValueError("no images: give an .expt file from dials.import, or images")
    if params.output.model is None:
        raise ValueError("output.model=None: the model needs a file to go to")
    if params.training.fractions is None:
        raise ValueError("training.fractions=None: give three, such as 0.5,0.2,0.3")
    check_writable(params.output.model)
    labelled = match_labels(stills, params.annotation)
    preprocessing = Preprocessing(contrast=params.contrast)
    options = params.training
    schedule = Schedule(
        epochs=options.epochs,
        batches=options.batches,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        final_learning_rate=options.final_learning_rate,
    )
    torch.manual_seed(options.random_seed)
    use_threads(get_processes(params.mp.nproc))
    network = build_network(params.architecture)
    parts = split(len(labelled), options.fractions, options.random_seed)
    training, validation, test = parts
    with tempfile.TemporaryDirectory(dir=Path(params.output.model).parent) as folder:
        dataset = prepare_dataset(labelled, preprocessing, Path(folder) / "images.npy")
        for name, part in zip(("Training", "Validation", "Test"), parts, strict=True):
            counts = np.bincount(dataset.labels[part], minlength=len(Label))
            classes = ", ".join(
                f"{n} {x.title}" for n, x in zip(counts, Label, strict=True)
            )
            logger.info("%s: %d images, %s", name, len(part), classes)
        train(
            network,
            dataset,
            training,
            validation,
            schedule,
            options.random_seed,
            _log_epoch,
        )
        calibration = calibrate(
            *class_scores(network, dataset, validation),
            source=f"{len(validation)} validation images of the training run",
        )
        if len(test):
            _log_test(*class_scores(network, dataset, test))
    files = sorted({still.file for still, _ in labelled})
    model = Model(
        name=Path(params.output.model).stem,
        network=network,
        architecture=params.architecture,
        preprocessing=preprocessing,
        calibration=calibration,
        trained_on=f"{len(training)} labelled images of {', '.join(files[:3])}"
        + (f" and {len(files) - 3} more files" if len(files) > 3 else ""),
        provenance={"program": "dials.cnn_train", "schedule": schedule.__dict__},
    )
    save_model(params.output.model, model)
    logger.info("Saved the model to %s", params.output.model)
    logger.info("\nPlease cite: %s", CITATION)


def prepare_dataset(
    labelled: list[tuple[Still, Label]], preprocessing: Preprocessing, path: Path
) -> Dataset:
    """Read and prepare all labelled stills into a memory-mapped file at path.

    Raises ValueError, with its name, for an image that can't be read or is empty.
    """
    images = allocate_images(path, len(labelled), preprocessing)
    progress = tqdm(labelled, desc="Preparing", unit="image", disable=None)
    for i, (still, _) in enumerate(progress):
        try:
            frame = read_frame(still.imageset, still.position)
            check_judgeable(frame)
        except Exception as problem:  # whatever dxtbx or a file format may raise
            raise ValueError(
                f"{still.file} [{still.frame}] can't be used: {problem}; label it None "
                "to leave it out"
            ) from problem
        prepared = cpu.prepare(
            frame.data, frame.mask, frame.beam_centre, wide(preprocessing)
        )
        images[i] = as_stored(prepared)
    return Dataset(images, np.array([int(label) for _, label in labelled]))


def _log_epoch(epoch: Epoch) -> None:
    logger.info(
        "Epoch %3d: loss %.3f, training %.1f%%; validation loss %.3f, %.1f%%",
        epoch.epoch,
        epoch.loss,
        epoch.training_success,
        epoch.validation_loss,
        epoch.validation_success,
    )


def _log_test(scores: torch.Tensor, labels: torch.Tensor) -> None:
    counts = confusion_counts(labels.numpy(), scores.argmax(dim=1).numpy())
    percent = row_percent(hit_or_miss(counts))
    rows = [
        [name, *(f"{x:.1f}" for x in row)]
        for name, row in zip(("Hit or Maybe", "Miss"), percent, strict=True)
    ]
    logger.info(
        "\nTest part: %.1f%% of three classes right\n%s",
        success_rate(counts),
        tabulate(
            rows,
            headers=["Expert", "Hit or Maybe, %", "Miss, %"],
            disable_numparse=True,
            colalign=("left", "right", "right"),
        ),
    )


if __name__ == "__main__":
    run()
