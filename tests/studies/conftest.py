"""Studies small enough for a test: frames of 32 bins, noise in place of shots."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import label_curve, networks, shots, sources
from dials_cnn_screen.util.workers import map_on_workers

SMALL = partial(Preprocessing, size=32)


class Noise:
    """Frames of noise, n of each experiment, a third of each class."""

    def __init__(self, n):
        self.n = n
        self.prepared, self.counted = [], []

    def __str__(self):
        return f"{self.n} frames of noise"

    def count(self, _experiment):
        return self.n

    def prepare(self, experiment, images, _folder, _nproc):
        self.prepared.append(experiment)
        for stored in images.values():
            stored[:] = np.random.default_rng(0).normal(size=stored.shape)
            stored[:, 0, 0] = len(self.prepared)
        return np.arange(self.n) % 3

    def count_spots(self, experiment, chosen, _folder, _nproc):
        self.counted.append(experiment)
        return np.where(chosen % 3 == 2, 0, 60)


@pytest.fixture
def forked(monkeypatch):
    """The function forked(module): its processes have what a test has replaced."""

    def forked(module):
        monkeypatch.setattr(
            module,
            "map_on_workers",
            lambda *args, **kwargs: map_on_workers(*args, **{**kwargs, "fork": True}),
        )

    return forked


@pytest.fixture
def small(monkeypatch):
    """LO19 on a small detector with the angles of the real one, so that it is quick."""
    experiment = EXPERIMENTS["LO19"]
    detector = replace(
        experiment.detector,
        shape=(200, 240),
        pixel_size=0.7,
        beam_centre=(100.0, 120.0),
        hole_radius=6.5,
    )
    small = replace(experiment, d_min=2.5, detector=detector)
    monkeypatch.setitem(EXPERIMENTS, "LO19", small)
    return small


@pytest.fixture
def noise(monkeypatch):
    """The function noise(n) -> source, with small frames and networks for it."""
    begin, choose = networks.begin_anew, label_curve.choose_schedule

    def begin_small(architecture, contrast):
        network = find_architecture(architecture).network(channels=(4,), size=32)
        usual = begin(architecture, contrast)
        preparation = replace(usual.preparation, size=32)
        return replace(usual, network=network, preparation=preparation)

    def choose_small(start, name, changes):
        return choose(start, name, {**changes, "batch_size": 6})

    for module in (shots, sources):
        monkeypatch.setattr(module, "Preprocessing", SMALL)
    monkeypatch.setattr(networks, "begin_anew", begin_small)
    monkeypatch.setattr(label_curve, "choose_schedule", choose_small)
    return Noise


@pytest.fixture
def study(noise, tmp_path):
    """A study of 20 frames of noise of each experiment."""
    load = partial(shots.load_shots, noise(20), tmp_path, 1)
    changes = {"epochs": 2, "batches": 1}
    return networks.Study(load, tmp_path, changes, {"shots": "noise"}, "cpu")
