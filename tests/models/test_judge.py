from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dials_cnn_screen.dataset import MAX_SHIFT, Dataset
from dials_cnn_screen.labels import Label
from dials_cnn_screen.model_file import Calibration, Model
from dials_cnn_screen.models import judge as module
from dials_cnn_screen.preprocessing import Preprocessing
from dials_cnn_screen.simulation.experiments import EXPERIMENTS

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "ke2018.txt"
SIZE = 8


class Brightness(torch.nn.Module):
    """Calls an image by its mean: 2 a Hit, 1 a Maybe, 0 a Miss."""

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return -10 * (mean[:, None] - torch.tensor([2.0, 1.0, 0.0])) ** 2


@pytest.fixture
def model():
    preprocessing = Preprocessing(size=SIZE)
    calibration = Calibration(temperature=2.0)
    return Model("test", Brightness(), "-", preprocessing, calibration, "-", {})


@pytest.fixture
def jobs_seen(monkeypatch):
    """Frames that show their class in place of shots; returns the jobs asked for."""
    seen = []

    def simulate(jobs, preprocessing, path, nproc, track):
        assert preprocessing.size == SIZE
        seen.extend(jobs)
        labels = np.array([int(aim) for _, aim, _ in jobs])
        level = 2 - labels
        # Every second Hit looks like a Miss.
        level[np.flatnonzero(labels == Label.HIT)[::2]] = 0
        edge = SIZE + 2 * MAX_SHIFT
        images = np.ones((len(jobs), edge, edge), np.float16) * level[:, None, None]
        return Dataset(images, labels)

    monkeypatch.setattr(module, "simulate_dataset", simulate)
    monkeypatch.setattr(module, "SHOTS", 20)
    return seen


def test_confusion_counts(model, jobs_seen):
    # Of 2000 LO19 have 730, 151, 1119; of 20, 7, 2 and 11.
    counts = module.judge(model, "LO19", seed=5)
    assert counts.tolist() == [[3, 0, 4], [0, 2, 0], [0, 0, 11]]
    assert {name for name, _, _ in jobs_seen} == {"LO19"}


def test_table(model, jobs_seen, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_model", lambda _path: model)
    module.main("default")
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 5
    assert rows[-1] == ("| LO19 | 7, 2, 11 | 55.6 | 100.0 | 80.0 | 94.8 / 96.0 |")
    # Each experiment has shots of its own.
    assert len({seed for _, _, seed in jobs_seen}) == 5 * 20


def test_published_figures_are_those_of_table_3():
    assert module.PUBLISHED.keys() == EXPERIMENTS.keys()
    if not PAPER.is_file():
        pytest.skip(f"no text of the paper in {PAPER}")
    table = PAPER.read_text().split("Confusion matrices for classification")[1]
    for name, (sensitivity, specificity) in module.PUBLISHED.items():
        pattern = rf"{name}\tHit or Maybe\t([\d.]+)%.*\n\s*\tMiss\t[\d.]+%\t([\d.]+)%"
        found = re.search(pattern, table).groups()
        assert tuple(map(float, found)) == (sensitivity, specificity)
