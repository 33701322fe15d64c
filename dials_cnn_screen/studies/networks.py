"""The networks of the studies, each trained once and then found in its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.labels.probabilities import softmax
from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.studies.label_curve import train_one
from dials_cnn_screen.studies.shots import Shots, experiments_of
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import fitted_model
from dials_cnn_screen.training.loop import Epoch, predict_logits
from dials_cnn_screen.training.starting import begin_anew
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads
from dials_cnn_screen.util.workers import map_on_workers

ARCHITECTURE = "ke2018"
# A group of experiments, a contrast, and the number of training images (None: all).
Wanted = tuple[str, str, int | None]


@dataclass(frozen=True, eq=False)
class Study:
    """What the networks are trained on, and how.

    Attributes:
        load: Finds the shots, in each process for itself.
        folder: Takes the files of the networks.
        changes: To the short schedule, as in choose_schedule.
        run: All that the networks depend on, JSON values by name.
        device: cpu or cuda.
    """

    load: Callable[[], Shots]
    folder: Path
    changes: dict[str, int]
    run: dict[str, object]
    device: str

    @cached_property
    def shots(self) -> Shots:
        """The shots, loaded once."""
        return self.load()


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, and its predictions for the test shots of every experiment.

    Attributes:
        model: The model file.
        history: Of the training.
        p: Probabilities, float64 (m, 3), by experiment.
        seconds: Of the training.
    """

    model: Path
    history: list[Epoch]
    p: dict[str, NDArray[np.float64]]
    seconds: float


def train_networks(study: Study, wanted: Sequence[Wanted], nproc: int) -> None:
    """Train the networks that are not there yet.

    On a CPU nproc at once, each on one processor: a network by itself leaves a second
    one idle half of the time. On a GPU one after the other.

    Raises:
        ChildProcessError: A process died.
    """
    missing = [one for one in wanted if not _files(study, *one)[1].is_file()]
    done = map_on_workers(
        _train_wanted,
        missing,
        nproc if study.device == "cpu" else 1,
        _start,
        (replace(study),),  # without the shots
        chunk=1,
        fork=False,
    )
    for _ in track(done, "Networks", len(missing), "network"):
        pass


def _start(study: Study) -> Study:
    use_threads(1)
    keep_freed_memory()
    return study


def _train_wanted(study: Study, wanted: Wanted) -> None:
    train_network(study, *wanted)


def train_network(
    study: Study, group: str, contrast: str = "lcn", n: int | None = None
) -> Trained:
    """Train a network from fresh weights, or find it.

    A training that was interrupted goes on.

    Args:
        study: What it is part of.
        group: Of experiments, as in shots.experiments_of.
        contrast: Of the images.
        n: Number of training images; None: all.
    """
    model, results = _files(study, group, contrast, n)
    if not results.is_file():
        _train(study, group, contrast, n)
    found = json.loads(results.read_text("utf-8"))
    return Trained(
        model,
        [Epoch(**epoch) for epoch in found["epochs"]],
        {k: np.array(p) for k, p in found["p"].items()},
        found["seconds"],
    )


def _files(study: Study, group: str, contrast: str, n: int | None) -> tuple[Path, Path]:
    """The files of a network: the model, and its results."""
    name = "-".join([*group.split(" + "), contrast, *([str(n)] if n else [])])
    model = study.folder / f"{name}.safetensors"
    return model, model.with_suffix(".json")


def _train(study: Study, group: str, contrast: str, n: int | None) -> None:
    model, results = _files(study, group, contrast, n)
    data = study.shots.data[contrast]
    splits = study.shots.splits_of(group, n)
    checkpoint = Checkpoint(
        model.with_suffix(".checkpoint"), {**study.run, "device": study.device}
    )
    plan, result, seconds = train_one(
        f"{group}, {contrast}, {len(splits.training)} images",
        data,
        splits,
        partial(begin_anew, ARCHITECTURE, contrast),
        study.changes,
        study.device,
        checkpoint,
    )
    save_model(
        model, fitted_model(plan, result, model.stem, experiments_of(group), splits)
    )
    found = {
        "seconds": seconds,
        "training_images": len(splits.training),
        "epochs": [asdict(epoch) for epoch in result.history],
        "p": {
            name: softmax(
                predict_logits(plan.start.network, data, own.test, study.device)[0],
                result.calibration.temperature,
            ).tolist()
            for name, own in study.shots.splits.items()
        },
    }
    with replacing(results) as unfinished:
        Path(unfinished).write_text(json.dumps(found) + "\n", "utf-8")
    checkpoint.path.unlink(missing_ok=True)


def feature_vectors(
    study: Study, trained: Trained, experiment: str, contrast: str = "lcn"
) -> NDArray[np.float32]:
    """Features of the test shots that a network's last layer takes, float32 (m, f)."""
    network: Any = load_model(trained.model).network
    test = study.shots.splits[experiment].test
    with torch.inference_mode():
        return torch.cat(
            [
                network.features(study.shots.data[contrast].batch(one)).flatten(1)
                for one in np.split(test, len(test))
            ]
        ).numpy()
