"""Train on the labels so far and classify all images: a process beside the window.

    python -m dials_cnn_screen.viewer.train_process folder

The annotation tool starts it (trainer.py). It trains as dials.cnn_train does, from the
default model, and ends when its standard input does, as with the window. What it says
is its progress, and last the error that ended it.
"""

# What loads DIALS is imported in functions, after torch: see use_threads.
from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dials_cnn_screen.util.errors import one_line

if TYPE_CHECKING:
    from dials_cnn_screen.models.model import Model

# In the folder: what the tool leaves there, and what it finds there at the end.
IMAGES, LABELS = "images.expt", "labels.txt"
MODEL, SCORES, LOG = "model.safetensors", "scores.json", "train.log"

# No test split: with few labels each counts.
_CHANGES = """
split.fractions = 0.7 0.3 0
training.resume = False
"""


def train(stills: list[Any], folder: Path) -> Model:
    """The default model, fitted to the labels in the folder.

    Args:
        stills: All images, with and without labels.
        folder: With the labels; gets a checkpoint.

    Raises:
        ValueError: As train_on_stills does.
    """
    from libtbx.phil import parse

    from dials_cnn_screen.phil import load_scope
    from dials_cnn_screen.training.parameters import Parameters
    from dials_cnn_screen.training.run import train_on_stills
    from dials_cnn_screen.util.parameters import read_parameters

    params = load_scope("cnn_train").fetch(source=parse(_CHANGES)).extract()
    params.annotation = [str(folder / LABELS)]
    wanted = read_parameters(Parameters, params)
    return train_on_stills(stills, wanted, "labels", folder / "checkpoint").model


def classify(stills: list[Any], model: Model, path: Path) -> None:
    """Write the model's results for all images, as dials.cnn_screen does."""
    from libtbx import Auto

    from dials_cnn_screen.screening.decision import Decision
    from dials_cnn_screen.screening.results import (
        ModelSummary,
        ScreeningResults,
        write_results,
    )
    from dials_cnn_screen.screening.stream import stream_results
    from dials_cnn_screen.util.workers import Processes

    decision, results, said = Decision(), [], time.monotonic()
    for _, result in stream_results(stills, model, decision, "auto", Processes(Auto)):
        results.append(result)
        if time.monotonic() > said + 1:
            said = time.monotonic()
            print(f"Classified {len(results)} of {len(stills)} images", flush=True)
    write_results(path, ScreeningResults(ModelSummary.of(model), decision, results))


def main(folder: Path) -> None:
    """Train and classify in a folder; the exit status tells whether that was done."""
    threading.Thread(target=_end_with_window, args=(folder,), daemon=True).start()
    print("Starting", flush=True)
    import torch  # noqa: F401

    try:
        _train_and_classify(folder)
    except (ValueError, OSError) as error:
        sys.exit(one_line(error))


def _train_and_classify(folder: Path) -> None:
    import dials.util.log
    from dxtbx.model import ExperimentList

    from dials_cnn_screen.images.stills import list_stills
    from dials_cnn_screen.models.model_file import save_model

    dials.util.log.config(logfile=str(folder / LOG))
    experiments = ExperimentList.from_file(str(folder / IMAGES), check_format=False)
    stills = list_stills(experiments)
    model = train(stills, folder)
    save_model(folder / MODEL, model)
    classify(stills, model, folder / SCORES)


def _end_with_window(folder: Path) -> None:
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
