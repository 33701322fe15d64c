"""What dials.cnn_annotate does before its window opens; test_window.py has the rest."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("dials")
pytest.importorskip("wx")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_annotate import run
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.viewer import window


@pytest.fixture
def shown(monkeypatch):
    """In place of the window: what is to be labelled; the first gets a Hit."""
    tasks = []

    def label(experiments, task):
        tasks.append((experiments, task))
        first = task.order[0] if task.order else 0
        task.labels.set(task.labels.names[first], Label.HIT)

    monkeypatch.setattr(window, "label_in_viewer", label)
    return tasks


@pytest.fixture
def images(in_tmp_path, write_levels, installed_formats):
    return str(write_levels(in_tmp_path / "run.h5", [50, 150, 250, 90]))


def write_scores(path, p_hits, names):
    entries = [
        {"file": file, "frame": frame, "p_hit": p, "p_maybe": 0.0, "p_miss": 1 - p}
        for (file, frame), p in zip(names, p_hits, strict=True)
    ]
    model = {"name": "m", "sha256": "0"}
    path.write_text(json.dumps({"model": model, "images": entries}))
    return f"scores={path}"


def test_labels_keys_and_notes(images, in_tmp_path, shown, capsys):
    run([images, "annotation=mine.txt", "keys.hit=1"])
    experiments, task = shown[0]
    assert len(experiments) == 4
    assert task.labels.names == [("run.h5", n) for n in (1, 2, 3, 4)]
    assert task.order is None
    assert (task.keys.hit, task.keys.maybe) == ("1", "k")
    assert (in_tmp_path / "mine.txt").read_text().splitlines() == [
        "run.h5 [1] HIT",
        "run.h5 [2] None",
        "run.h5 [3] None",
        "run.h5 [4] None",
    ]
    notes = json.loads((in_tmp_path / "mine.txt.json").read_text())
    assert (notes["order"], notes["open"]) == ("sequence", None)
    said = capsys.readouterr().out
    assert "1 images labelled in mine.txt: 1 Hit, 0 Maybe, 0 Miss; 3 left" in said


def test_order_by_uncertainty(images, in_tmp_path, shown):
    names = [("run.h5", n) for n in (1, 2, 3, 4)]
    scores = write_scores(in_tmp_path / "scores.json", [0.9, 0.45, 0.1, 0.7], names)
    run([images, "order=uncertain", scores])
    assert shown[0][1].order == [1, 3, 0, 2]
    run([images, "annotation=other.txt", "order=diverse", scores])
    assert sorted(shown[1][1].order) == [0, 1, 2, 3]


def test_random_order_is_that_of_the_seed(images, shown):
    orders = []
    for seed in (1, 1, 2):
        run([images, "order=random", f"random_seed={seed}"])
        orders.append(shown[-1][1].order)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == [0, 1, 2, 3]


def test_blind_second_pass(images, in_tmp_path, shown, capsys):
    (in_tmp_path / "first.txt").write_text("run.h5 [2] MISS\nrun.h5 [3] HIT\n")
    run([images, "annotation=second.txt", "compare=first.txt"])
    task = shown[0][1]
    assert sorted(task.order) == [1, 2]
    assert sum(task.labels.counts().values()) == 1  # of the first pass none is known
    said = capsys.readouterr().out
    assert "0 Miss; 1 left" in said
    assert "of 1 images alike, Cohen's kappa" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["annotation=None"], "the labels need a file"),
        (["keys.hit=k"], "keys.hit and keys.maybe are both 'k'"),
        (["order=uncertain"], "run dials.cnn_screen, and give scores"),
        (["order=diverse", "scores=gone.json"], "gone.json"),
        (["compare=labels.txt"], "is the file that the labels go to"),
        (["compare=gone.txt"], "gone.txt"),
        (["compare=other.txt"], "none of these images is labelled in 'other.txt'"),
        (["annotation=other.txt"], r"of other images, old.h5 \[1\] is not among these"),
        (["annotation=gone/labels.txt"], "there is no folder"),
    ],
)
def test_mistakes_are_told_in_a_line(images, in_tmp_path, shown, args, message):
    (in_tmp_path / "other.txt").write_text("old.h5 [1] HIT\n")
    with pytest.raises(Sorry, match=message):
        run([images, *args])
    assert not shown
    assert (in_tmp_path / "other.txt").read_text() == "old.h5 [1] HIT\n"


def test_no_images(in_tmp_path):
    with pytest.raises(Sorry, match="no images"):
        run([])


def test_no_display(images, monkeypatch):
    monkeypatch.setattr("wx.App.IsDisplayAvailable", lambda: False)
    with pytest.raises(Sorry, match="there is no display"):
        run([images])
