from __future__ import annotations

import json

import numpy as np
import pytest

from dials_cnn_screen.training.history import (
    check_picture,
    draw_history,
    rates,
    write_history,
)
from dials_cnn_screen.training.loop import Epoch

HISTORY = [Epoch(i, 1 / (i + 1), 60 + i, 1.2 / (i + 1), 50 + i) for i in range(4)]


def test_rates_by_hand():
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 1, 0, 2, 2, 2, 2, 1])
    kept, rejected, right = rates(labels, predicted)
    assert kept == "75.0 (30.1-95.4)"
    assert rejected == "75.0 (30.1-95.4)"
    assert right == "50.0 (21.5-78.5)"
    assert rates(labels[:4], predicted[:4])[1] == "none"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_picture(tmp_path, ending):
    path = tmp_path / f"history.{ending}"
    check_picture(path)
    draw_history(path, HISTORY, "Training of m")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_the_picture_shows(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    draw_history(tmp_path / "history.png", HISTORY, "Training of m")
    above, below = figures[0].axes
    lines = {line.get_label(): line for line in below.lines}
    assert list(lines["training"].get_ydata()) == [e.loss for e in HISTORY]
    assert list(lines["validation"].get_ydata()) == [e.validation_loss for e in HISTORY]
    assert list(lines["validation"].get_xdata()) == [0, 1, 2, 3]
    assert list(lines["best: epoch 3"].get_xdata()) == [3, 3]
    assert list(above.lines[0].get_ydata()) == [60, 61, 62, 63]
    assert (above.get_title(), below.get_xlabel()) == ("Training of m", "epoch")


@pytest.mark.parametrize("name", ["history.txt", "history", "history.safetensors"])
def test_not_a_picture(name):
    with pytest.raises(ValueError, match="is not the name of a picture"):
        check_picture(name)


def test_json(tmp_path):
    write_history(tmp_path / "h.json", {"epochs": [vars(HISTORY[0])]})
    assert json.loads((tmp_path / "h.json").read_text()) == {
        "epochs": [vars(HISTORY[0])]
    }
