"""What dials.cnn_annotate does before its window opens; test_window.py has the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("wx")

from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line import cnn_screen
from dials_cnn_screen.command_line.cnn_annotate import phil_scope, run
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    write_results,
)
from dials_cnn_screen.viewer import window


@pytest.fixture
def shown(monkeypatch):
    """In place of the window: what is to be labelled; the first gets a Hit."""
    tasks = []

    def label(experiments, task):
        tasks.append((experiments, task))
        first = task.order[0] if task.order else 0
        task.labels.set(first, Label.HIT)

    monkeypatch.setattr(window, "label_in_viewer", label)
    return tasks


@pytest.fixture
def images(in_tmp_path, write_levels, installed_formats):
    return str(write_levels(in_tmp_path / "run.h5", [50, 150, 250, 90]))


def write_scores(path, p_hits, *files):
    """The scores of a run of dials.cnn_screen over these files; one spot an image."""
    stills = list_stills(ExperimentListFactory.from_filenames(list(files)))
    images = [
        decide(
            still.name,
            make_prediction([p, 0, 1 - p], np.array([[10, n]])),
            None,
            Decision(),
        )
        for n, (still, p) in enumerate(zip(stills, p_hits, strict=True))
    ]
    results = ScreeningResults(ModelSummary("m", "0"), Decision(), images)
    write_results(path, results)
    return f"scores={path}"


def test_labels_keys_and_notes(images, in_tmp_path, shown, capsys):
    run([images, "annotation=mine.txt", "keys.hit=1"])
    experiments, task = shown[0]
    assert len(experiments) == 4
    names = [ImageName(images, n) for n in (1, 2, 3, 4)]
    assert task.labels.names == names
    assert task.spots == {}
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
    assert "mine.txt: 1 of 4 images labelled (1 Hit, 0 Maybe, 0 Miss), 3 left" in said


def test_order_by_uncertainty(images, in_tmp_path, shown):
    scores = write_scores("scores.json", [0.9, 0.45, 0.1, 0.7], images)
    run([images, "order=uncertain", scores])
    assert shown[0][1].order == [1, 3, 0, 2]
    run([images, "annotation=other.txt", "order=diverse", scores])
    assert sorted(shown[1][1].order) == [0, 1, 2, 3]


def test_answers_are_those_of_the_scores(images, shown):
    scores = write_scores("scores.json", [0.9, 0.45, 0.1, 0.7], images)
    run([images, scores])
    answers = shown[0][1].answers
    assert [answers[name].p_keep for name in shown[0][1].labels.names] == [
        pytest.approx(p) for p in (0.9, 0.45, 0.1, 0.7)
    ]
    run([images, "annotation=other.txt"])
    assert shown[1][1].answers == {}
    assert shown[1][1].region is None
    run([images, "annotation=third.txt", "region_of_interest=0,9,3,9"])
    assert shown[2][1].region == [0, 9, 3, 9]


@pytest.fixture
def two_runs(in_tmp_path, write_levels, installed_formats) -> list[str]:
    """Files of one name in two folders, as programs get them: from where they are."""
    paths = [f"{run}/data.h5" for run in ("run1", "run2")]
    for path, levels in zip(paths, ([50, 150], [250, 90]), strict=True):
        os.mkdir(os.path.dirname(path))
        write_levels(path, levels)
    return paths


def test_two_files_of_one_name(two_runs, in_tmp_path, shown):
    scores = write_scores("scores.json", [0.9, 0.45, 0.1, 0.7], *two_runs)
    run([*two_runs, "order=uncertain", scores, "circle_spots=always"])
    task = shown[0][1]
    assert task.order == [1, 3, 0, 2]
    assert (in_tmp_path / "labels.txt").read_text() == (
        "run1/data.h5 [1] None\nrun1/data.h5 [2] HIT\n"
        "run2/data.h5 [1] None\nrun2/data.h5 [2] None\n"
    )
    assert [task.spots[name].positions.tolist() for name in task.labels.names] == [
        [[10.5, n + 0.5]] for n in range(4)
    ]
    run([*two_runs, "order=diverse", scores, "annotation=b.txt"])
    assert sorted(shown[1][1].order) == [0, 1, 2, 3]
    # A second pass over what was labelled.
    run([*two_runs, "compare=labels.txt", "annotation=c.txt"])
    assert shown[2][1].order == [1]
    # And over one of the files, where its folder is not needed.
    run([two_runs[0], "compare=labels.txt", "annotation=d.txt"])
    assert (in_tmp_path / "d.txt").read_text() == "data.h5 [1] None\ndata.h5 [2] HIT\n"
    with pytest.raises(Sorry, match=r"data\.h5 \[2\] could be an image of 2 files"):
        run([*two_runs, "annotation=d.txt"])


def test_two_runs_screened_and_labelled(two_runs, in_tmp_path, shown, level_model):
    cnn_screen.run([*two_runs, f"model={level_model}", "output.html=None"])
    run([*two_runs, "order=uncertain", "scores=cnn_screen.json"])
    # The levels 90.5 and 150.5 are nearest to 100, where P(Hit) + P(Maybe) is 0.5.
    assert shown[0][1].order[0] == 3
    assert sorted(shown[0][1].order) == [0, 1, 2, 3]
    lines = (in_tmp_path / "labels.txt").read_text().splitlines()
    assert lines[3] == "run2/data.h5 [2] HIT"


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
    assert "0 Miss), 1 left" in said
    assert "Images labelled in both passes: 1\n" in said
    assert "% agreement, Cohen's kappa" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["annotation=None"], "annotation=None: give a file for the labels"),
        (["keys.hit=k"], "keys.hit and keys.maybe are both 'k'"),
        (
            ["order=uncertain"],
            "order=uncertain needs scores; run dials.cnn_screen and give scores=",
        ),
        (["circle_spots=always"], "circle_spots=always needs scores or a .refl file"),
        (["order=diverse", "scores=gone.json"], "gone.json"),
        (["compare=labels.txt"], "is the file that the labels are saved to"),
        (["compare=gone.txt"], "gone.txt"),
        (["compare=other.txt"], "none of these images is labelled in 'other.txt'"),
        (["annotation=other.txt"], r"of other images: old.h5 \[1\] is not among these"),
        (["annotation=gone/labels.txt"], "there is no folder"),
        (["region_of_interest=9,9,0,9"], "region_of_interest=9,9,0,9 is not x0,x1,y0"),
    ],
)
def test_mistakes_are_told_in_a_line(images, in_tmp_path, shown, args, message):
    (in_tmp_path / "other.txt").write_text("old.h5 [1] HIT\n")
    with pytest.raises(Sorry, match=message):
        run([images, *args])
    assert not shown
    assert (in_tmp_path / "other.txt").read_text() == "old.h5 [1] HIT\n"
    assert not list(in_tmp_path.glob("*.txt.json"))


def test_no_images(in_tmp_path):
    with pytest.raises(Sorry, match="no images"):
        run(["order=random"])


def test_help_without_arguments(in_tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run([])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "imported.expt | image files [strong.refl]" in said
    assert "dials.cnn_annotate imported.expt annotation=labels.txt" in said
    assert not list(in_tmp_path.iterdir())


def test_no_display(images, monkeypatch):
    monkeypatch.setattr("wx.App.IsDisplayAvailable", lambda: False)
    with pytest.raises(Sorry, match="there is no display"):
        run([images])


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "from dials_cnn_screen.command_line.cnn_annotate import run\n"
        "try:\n    run(['-h'])\n"
        "finally:\n    print(*sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    # DIALS itself imports scipy and sklearn.
    heavy = {"torch", "numba", "matplotlib", "jinja2", "h5py", "wx"}
    assert heavy.isdisjoint(done.stdout.splitlines()[-1].split())


def test_first_parameters_of_the_help():
    """Those of the first expert level are what a first-time user needs."""
    first = {
        location.path
        for location in phil_scope.all_definitions()
        if not location.object.expert_level
        and not location.path.startswith(("keys.", "output."))
    }
    assert first == {"annotation", "order", "scores"}
    assert phil_scope.get("keys").objects[0].expert_level == 2
    assert phil_scope.get("output").objects[0].expert_level == 1
