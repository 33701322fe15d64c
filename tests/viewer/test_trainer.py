"""Training beside the window; test_window.py has the button."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening.results import read_results
from dials_cnn_screen.viewer import train_process
from dials_cnn_screen.viewer.trainer import Trainer, format_wanting


@pytest.fixture
def labels(tmp_path, many_shots):
    path = tmp_path / "labels.txt"
    path.write_text(many_shots.labels)
    return path


@pytest.fixture
def experiments(many_shots):
    return ExperimentListFactory.from_filenames([str(many_shots.path)])


@pytest.fixture
def said():
    return queue.Queue()


@pytest.fixture
def train(labels, experiments, said, monkeypatch):
    """The function that starts a training; what it says, or (error,), is in said."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    trainers = []

    def start():
        trainers.append(
            Trainer(labels, experiments, said.put, lambda error: said.put((error,)))
        )
        return trainers[-1]

    yield start
    for trainer in trainers:
        trainer.stop()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"many.h5", "labels.txt"}


def wait_for_the_end(said) -> str | None:
    while not isinstance(heard := said.get(timeout=300), tuple):
        pass
    return heard[0]


def test_counts_that_are_too_few():
    def wanting(hit, maybe, miss):
        return format_wanting({Label.HIT: hit, Label.MAYBE: maybe, Label.MISS: miss})

    needs = "Training needs 10 Hits or Maybes and 10 Misses: label "
    assert wanting(4, 3, 8) == f"{needs}3 more Hits or Maybes and 2 more Misses"
    assert wanting(4, 6, 0) == f"{needs}10 more Misses"
    assert wanting(0, 9, 30) == f"{needs}1 more Hits or Maybes"
    assert wanting(0, 10, 10) is None


def test_training_leaves_model_scores_and_log(train, said, labels, many_shots):
    trainer = train()
    assert wait_for_the_end(said) is None
    assert left(labels.parent) == {
        "labels_trained.safetensors",
        "labels_trained.json",
        "labels_trained.log",
    }
    model = load_model(str(trainer.model))
    assert model.sha256 != load_model("default").sha256
    assert "then 14 labelled images of many.h5" in model.trained_on
    results = read_results(trainer.scores).images
    assert [r.name.number for r in results] == list(range(1, many_shots.n + 1))
    p_keep = np.array([r.p_keep for r in results])
    assert (p_keep > 0.5).tolist() == many_shots.has_spots
    assert "Epoch  15" in trainer.log.read_text()


def test_stop_leaves_nothing(train, said, labels):
    trainer = train()
    while "Preparing" not in said.get(timeout=300):
        pass
    assert len(left(labels.parent)) == 1
    trainer.stop()
    assert left(labels.parent) == set()
    while not said.empty():
        assert not isinstance(said.get(), tuple)


def test_error_is_told(train, said, labels, many_shots):
    with many_shots.path.open("r+b") as file:
        file.truncate(3000)
    train()
    error = wait_for_the_end(said)
    assert "can't be used" in error
    assert error.endswith("labels_trained.log)")
    assert "\n" not in error
    assert left(labels.parent) == {"labels_trained.log"}


def test_process_ends_with_the_window(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-m", train_process.__name__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "Starting\n"
    program.stdin.close()
    assert program.wait(60) == 1
    program.stdout.close()
    end = time.monotonic() + 10
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not folder.exists()
