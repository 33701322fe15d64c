from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import published
from dials_cnn_screen.studies import tables as module
from dials_cnn_screen.studies.networks import Trained
from dials_cnn_screen.studies.tables import Rate


@pytest.fixture
def asked(study, monkeypatch):
    """Networks that call all but their own a Miss; what is asked of them."""
    asked = []

    def train(_study, group, contrast="lcn", n=None):
        asked.append((group, contrast, n))
        own = module.experiments_of(group)
        p = {
            name: np.eye(3)[
                study.shots.labels(name) if name in own else np.full(6, Label.MISS)
            ]
            for name in EXPERIMENTS
        }
        return Trained(Path("none"), [], p, 0.0)

    monkeypatch.setattr(module, "train_network", train)
    return asked


def percent(table):
    return {
        row: {column: rate.as_dict()["percent"] for column, rate in rates.items()}
        for row, rates in table.rows.items()
    }


def test_table_3(study, asked, monkeypatch):
    pytest.importorskip("dials")  # cuts in spots are of its parameters
    monkeypatch.setattr(
        module, "cut", {**dict.fromkeys(EXPERIMENTS, 30), "LO19": 61}.get
    )
    table = module.table_3(study)
    assert [group for group, _, _ in asked] == list(EXPERIMENTS)
    found = percent(table)
    assert list(found["L498"].values()) == [100] * 5
    # The cut is above all counts; at the network's specificity it is not.
    assert list(found["LO19"].values()) == [100, 100, 0, 100, 100]
    printed = [rate.published for rate in table.rows["LO19"].values()]
    assert printed == [94.8, 96.0, 80.6, 100.0, None]


def test_cross_training(study, asked):
    wrong = 100 / 3
    found = percent(module.table_4(study))
    assert found.keys() == found["LO19"].keys() == EXPERIMENTS.keys()
    assert found["LO19"]["LO19"] == 100
    assert found["LO19"]["L498"] == pytest.approx(wrong)
    assert percent(module.table_5(study))["LG36"] == {
        "Rayonix": pytest.approx(wrong),
        "LG36": 100,
        "L498": pytest.approx(wrong),
    }
    table = module.table_6(study)
    assert percent(table)["Rayonix + LG36"] == {
        "Rayonix": 100,
        "LG36": 100,
        "L498": pytest.approx(wrong),
    }
    assert table.rows["Rayonix"]["Rayonix"] == Rate(18, 18, 91)


def test_table_7_has_the_numbers_that_there_are(study, asked, monkeypatch):
    pytest.importorskip("dials")  # cuts in spots are of its parameters
    monkeypatch.setattr(module, "round", lambda n, _digits: n, raising=False)
    monkeypatch.setattr(module, "SIZES", (10, 20, 2000))
    table = module.table_7(study)
    assert list(table.rows) == ["44", "20", "10"]
    assert [n for _, _, n in asked] == [None, 20, 10]


def test_table_7_of_all_is_beside_the_printed_4000(study, asked, monkeypatch):
    splits = Splits(np.arange(4003), np.arange(0), np.arange(0))
    monkeypatch.setattr(type(study.shots), "splits_of", lambda *_: splits)
    table = module.table_7(study)
    assert list(table.rows) == ["4000", "2000", "400", "100"]
    assert [n for _, _, n in asked] == [None, 2000, 400, 100]
    assert table.rows["4000"]["LG36"].published == 91


def test_table_8(study, asked):
    table = module.table_8(study)
    assert len(asked) == 9
    assert list(table.rows["L498"]) == ["none", "linear", "lcn"]
    assert [rate.published for rate in table.rows["L498"].values()] == [None, 68, 81]


def test_all_networks_are_those_that_the_tables_ask_for(study, asked, monkeypatch):
    pytest.importorskip("dials")  # cuts in spots are of its parameters
    monkeypatch.setattr(module, "SIZES", (10, 20, 4000))
    wanted = module.all_networks(study.shots)
    for make_table in module.TABLES:
        make_table(study)
    assert set(wanted) == set(asked)
    assert len(wanted) == len(set(wanted))


def test_tables_are_written(tmp_path):
    table = module.Table("table_0", "A title", "rows", "A note.")
    table.rows["one"] = {"a": Rate(8, 10, 91), "b": Rate(0, 0)}
    table.rows["two"] = {"b": Rate(5, 5)}
    table.write(tmp_path, "Made of nothing.")
    assert (tmp_path / "table_0.md").read_text().split("\n\n") == [
        "## A title",
        "| rows | a | b |\n| --- | --- | --- |\n"
        "| one | 80.0 (49.0-94.3) [91] | none |\n| two |  | 100.0 (56.6-100.0) |",
        "A note.",
        "Made of nothing.\n",
    ]
    values = json.loads((tmp_path / "table_0.json").read_text())
    assert values["source"] == "Made of nothing."
    assert values["rows"]["one"]["a"] == {
        "right": 8,
        "images": 10,
        "percent": 80,
        "interval_percent": pytest.approx([49.0, 94.3], abs=0.1),
        "published_percent": 91,
    }
    assert values["rows"]["one"]["b"]["percent"] is None


def test_sizes_of_table_7_are_the_printed_ones():
    assert module.SIZES == tuple(sorted(published.TABLE_7)) == (100, 400, 2000, 4000)
