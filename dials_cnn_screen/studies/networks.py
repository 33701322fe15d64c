"""The networks of the studies, each trained once and then found in its files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.decision import probabilities
from dials_cnn_screen.files import replacing
from dials_cnn_screen.model_file import load_model, save_model
from dials_cnn_screen.studies.label_curve import train_one
from dials_cnn_screen.studies.shots import Shots, experiments_of
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import fitted_model
from dials_cnn_screen.training.loop import Epoch, class_scores
from dials_cnn_screen.training.starting import begin_anew

ARCHITECTURE = "ke2018"


@dataclass(frozen=True, eq=False)
class Study:
    """What the networks are trained on, and how.

    folder: takes their files. changes: to the short schedule, as in choose_schedule.
    run: all that they depend on, JSON values by name.
    """

    shots: Shots
    folder: Path
    changes: dict[str, int]
    run: dict[str, object]
    device: str


@dataclass(frozen=True, eq=False)
class Trained:
    """A network and what it says of the test shots of every experiment.

    p: probabilities, float64 (m, 3), by experiment. seconds: of the training.
    """

    model: Path
    history: list[Epoch]
    p: dict[str, np.ndarray]
    seconds: float


def train_network(
    study: Study, group: str, contrast: str = "lcn", n: int | None = None
) -> Trained:
    """The network trained on a group of experiments, from fresh weights.

    n: of training images; None: all. A training that was interrupted goes on.
    """
    name = "-".join([*group.split(" + "), contrast, *([str(n)] if n else [])])
    model, results = (study.folder / f"{name}.{x}" for x in ("safetensors", "json"))
    if not results.is_file():
        _train(study, group, contrast, n, model, results)
    found = json.loads(results.read_text("utf-8"))
    return Trained(
        model,
        [Epoch(**epoch) for epoch in found["epochs"]],
        {k: np.array(p) for k, p in found["p"].items()},
        found["seconds"],
    )


def _train(
    study: Study, group: str, contrast: str, n: int | None, model: Path, results: Path
) -> None:
    data = study.shots.data[contrast]
    parts = study.shots.parts_of(group, n)
    checkpoint = Checkpoint(
        model.with_suffix(".checkpoint"), {**study.run, "device": study.device}
    )
    title = f"{group}, {contrast}, {len(parts.training)} images"
    plan, result, seconds = train_one(
        title,
        data,
        parts,
        partial(begin_anew, ARCHITECTURE, contrast),
        study.changes,
        study.device,
        checkpoint,
    )
    print(f"{title}: {seconds:.0f} s", file=sys.stderr, flush=True)
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
