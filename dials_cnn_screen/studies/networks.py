"""The networks of the studies, each trained once and then found in its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dials_cnn_screen.labels.probabilities import probabilities
from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.studies.label_curve import train_one
from dials_cnn_screen.studies.shots import Shots, experiments_of
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import fitted_model
from dials_cnn_screen.training.loop import Epoch, class_scores
from dials_cnn_screen.training.starting import begin_anew
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads
from dials_cnn_screen.util.workers import map_on_workers

ARCHITECTURE = "ke2018"
# A group of experiments, a contrast, and how many training images (None: all).
Wanted = tuple[str, str, int | None]


@dataclass(frozen=True, eq=False)
class Study:
    """What the networks are trained on, and how.

    folder: takes their files. changes: to the short schedule, as in choose_schedule.
    run: all that they depend on, JSON values by name. watched: whether each training
    shows how far it is.
    """

    shots: Shots
    folder: Path
    changes: dict[str, int]
    run: dict[str, object]
    device: str
    watched: bool = True


@dataclass(frozen=True, eq=False)
class Trained:
    """A network and what it says of the test shots of every experiment.

    p: probabilities, float64 (m, 3), by experiment. seconds: of the training.
    """

    model: Path
    history: list[Epoch]
    p: dict[str, np.ndarray]
    seconds: float


def train_networks(
    study: Study, load: Callable[[], Shots], wanted: Sequence[Wanted], nproc: int
) -> None:
    """Train those that are not there yet, nproc at once and each on one processor.

    A network by itself leaves a second processor idle half of the time. load: finds the
    shots again, in a process of its own. On a GPU they are trained one by one.

    Raises ChildProcessError if a process dies.
    """
    missing = [one for one in wanted if not _files(study, *one)[1].is_file()]
    if study.device != "cpu" or nproc == 1:
        for one in missing:
            train_network(study, *one)
        return
    done = map_on_workers(
        _train_on_worker,
        missing,
        nproc,
        _start_worker,
        (replace(study, shots=None, watched=False), load),
        chunk=1,
        fork=True,
    )
    for _ in tqdm(done, "Networks", len(missing), disable=None):
        pass


# A process's own, so that a task is no more than a name.
_study: Study


def _start_worker(study: Study, load: Callable[[], Shots]) -> None:
    global _study
    use_threads(1)
    keep_freed_memory()
    _study = replace(study, shots=load())


def _train_on_worker(wanted: Wanted) -> None:
    train_network(_study, *wanted)


def train_network(
    study: Study, group: str, contrast: str = "lcn", n: int | None = None
) -> Trained:
    """The network trained on a group of experiments, from fresh weights.

    n: of training images; None: all. A training that was interrupted goes on.
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
    """Of a network: itself, and what it came to."""
    name = "-".join([*group.split(" + "), contrast, *([str(n)] if n else [])])
    model = study.folder / f"{name}.safetensors"
    return model, model.with_suffix(".json")


def _train(study: Study, group: str, contrast: str, n: int | None) -> None:
    model, results = _files(study, group, contrast, n)
    data = study.shots.data[contrast]
    parts = study.shots.parts_of(group, n)
    checkpoint = Checkpoint(
        model.with_suffix(".checkpoint"), {**study.run, "device": study.device}
    )
    plan, result, seconds = train_one(
        f"{group}, {contrast}, {len(parts.training)} images",
        data,
        parts,
        partial(begin_anew, ARCHITECTURE, contrast),
        study.changes,
        study.device,
        checkpoint,
        study.watched,
    )
    save_model(
        model, fitted_model(plan, result, model.stem, experiments_of(group), parts)
    )
    found = {
        "seconds": seconds,
        "training_images": len(parts.training),
        "epochs": [asdict(epoch) for epoch in result.history],
        "p": {
            name: probabilities(
                class_scores(plan.start.network, data, own.test, study.device)[0],
                result.calibration.temperature,
            ).tolist()
            for name, own in study.shots.parts.items()
        },
    }
    with replacing(results) as unfinished:
        Path(unfinished).write_text(json.dumps(found) + "\n", "utf-8")
    checkpoint.path.unlink(missing_ok=True)


def feature_vectors(
    study: Study, trained: Trained, experiment: str, contrast: str = "lcn"
) -> np.ndarray:
    """What its last layer tells the classes of the test shots by, float32 (m, f)."""
    network = load_model(trained.model).network
    test = study.shots.parts[experiment].test
    with torch.inference_mode():
        return torch.cat(
            [
                network.features(study.shots.data[contrast].batch([i])).flatten(1)
                for i in test
            ]
        ).numpy()
