"""The tables of a whole run; the programs themselves have their own tests."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("dials")

from dxtbx.model import Crystal, ExperimentList

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.studies import whole_run
from dials_cnn_screen.studies.commands import Cost
from dials_cnn_screen.studies.whole_run import (
    Way,
    write_losses,
    write_table,
)

A, B, C, D = (("run_00.h5", i + 1) for i in range(4))
LABELS = {A: Label.HIT, B: Label.HIT, C: Label.MAYBE, D: Label.MISS}
ALL = Way("all", Cost(20.2, 18.0, 9.0) + Cost(2.0, 1.0, 8.0), {A, B, D})
VETO = Way("veto", Cost(9.0, 8.0, 7.0), {A, C})


@pytest.fixture
def screened(tmp_path):
    kept = {A: True, B: False, C: True, D: False}
    images = [{"file": f, "frame": n, "kept": k} for (f, n), k in kept.items()]
    (tmp_path / "screened").mkdir()
    path = tmp_path / "screened" / "cnn_screen.json"
    path.write_text(json.dumps({"images": images}))
    return tmp_path


def test_table():
    assert write_table([ALL, VETO], LABELS).splitlines()[2:] == [
        "| all | 22 | 19 | 2 of 2 | 0 of 1 | 1 of 1 |",
        "| veto | 9 | 8 | 1 of 2 | 1 of 1 | 0 of 1 |",
    ]


def test_losses():
    lines = write_losses({A, C}, [ALL, VETO], LABELS)
    assert [line.split(" (")[0] for line in lines] == [
        "Hit kept: 50.0",
        "Maybe kept: 100.0",
        "Miss kept: 0.0",
        "Indexed by all and not by veto: 2; by veto only: 1",
    ]


def test_hits_of_a_new_file_are_named_as_in_the_run(screened, monkeypatch):
    monkeypatch.setattr(whole_run, "_run", lambda *_: Cost(1.0, 1.0, 5.0))
    monkeypatch.setattr(whole_run, "_indexed", lambda _: {("hits.h5", 2)})
    way = whole_run.screen_first(screened / "screened", [])
    assert way == Way("screened", Cost(3.0, 3.0, 5.0), {C})


@pytest.mark.usefixtures("installed_formats", "in_tmp_path")
def test_images_with_a_crystal_are_indexed(write_levels):
    from dxtbx.model.experiment_list import ExperimentListFactory

    write_levels("run_00.h5", [20, 30])
    experiments = ExperimentListFactory.from_filenames(["run_00.h5"])
    experiments[1].crystal = Crystal((10, 0, 0), (0, 20, 0), (0, 0, 30), "P1")
    ExperimentList(experiments).as_file("found.expt")
    assert whole_run._indexed(["found.expt"]) == {B}
