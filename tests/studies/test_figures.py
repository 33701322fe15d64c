from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import figures as module
from dials_cnn_screen.studies.networks import Trained

PNG = b"\x89PNG"


@pytest.fixture
def drawn(monkeypatch):
    """Figures in place of their files."""
    monkeypatch.setattr(module, "save_figure", lambda figure, _path: figure)


def test_figure_8(study, tmp_path):
    path = module.figure_8(study, tmp_path)
    assert path.name == "figure_8.png"
    assert path.read_bytes().startswith(PNG)


def test_figure_9_counts_what_is_right(study, tmp_path, drawn, monkeypatch):
    # Two thirds of the shots are Hit or Maybe; all but one of each kind are right.
    def train(_study, name):
        labels = study.shots.labels(name)
        kept = np.where(labels == Label.MISS, 0.1, 0.8)
        for kind in (labels == Label.MISS, labels == Label.HIT):
            kept[np.flatnonzero(kind)[0]] = 0.5 if labels[kind][0] else 0.4
        p = np.stack([kept, np.zeros(6), 1 - kept], axis=1)
        return Trained(Path("none"), [], {name: p}, 0.0)

    monkeypatch.setattr(module, "train_network", train)
    figure = module.figure_9(study, tmp_path)
    titles = [axes.get_title() for axes in figure.axes]
    first = next(iter(EXPERIMENTS))
    assert titles[0] == f"{first}, Miss: 1 right, mean 0.90"
    assert titles[1] == f"{first}, Hit or Maybe: 3 right, mean 0.80"
    heights = [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes]
    assert heights == [1, 3] * len(EXPERIMENTS)


def test_figure_11_has_a_place_for_each_shot(study, tmp_path, drawn, monkeypatch):
    pytest.importorskip("sklearn")
    labels = np.arange(12) % 3
    features = np.random.default_rng(0).normal(size=(12, 4))
    monkeypatch.setattr(module, "feature_vectors", lambda *_: features)
    monkeypatch.setattr(type(study.shots), "labels", lambda *_: labels)
    (axes,) = module.figure_11(study, tmp_path).axes
    assert [len(group.get_offsets()) for group in axes.collections] == [4, 4, 4]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["Miss (4)", "Maybe (4)", "Hit (4)"]


def test_figure_11_of_too_few_shots_says_so(study, tmp_path, drawn):
    (axes,) = module.figure_11(study, tmp_path).axes
    assert axes.texts[0].get_text().startswith("No map: it takes 10 images")
