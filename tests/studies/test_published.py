from __future__ import annotations

import re
from pathlib import Path

import pytest

from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import published

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "ke2018.txt"


@pytest.fixture(scope="module")
def text():
    if not PAPER.is_file():
        pytest.skip(f"no text of the paper in {PAPER}")
    return PAPER.read_text()


def test_table_3_has_all_experiments():
    assert published.TABLE_3.keys() == EXPERIMENTS.keys()


def test_table_3_is_as_printed(text):
    printed = text.split("Confusion matrices for classification")[1]
    for name, ((kept, rejected), (by_spots, wrong)) in published.TABLE_3.items():
        pattern = (
            rf"{name}\tHit or Maybe\t{kept}%\t[\d.]+%\t{by_spots}%.*\n"
            rf"\s*\tMiss\t[\d.]+%\t{rejected}%\t[\d.]+%\t{wrong}%"
        )
        assert re.search(pattern, printed), name


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("TABLE_4", ["LO19", "LN83", "LN84"]),
        ("TABLE_5", ["Rayonix", "LG36", "L498"]),
        ("TABLE_6", ["Rayonix", "LG36", "L498"]),
        ("TABLE_7", ["Rayonix", "LG36"]),
        ("TABLE_8", ["linear", "lcn"]),
    ],
)
def test_success_rates_are_as_printed(text, table, columns):
    number = table.removeprefix("TABLE_")
    printed = re.split(rf"\nTable {number}\s*(?=[A-Z])", text)[1]
    for row, rates in getattr(published, table).items():
        line = "\t".join([str(row), *(f"{rates[column]}%" for column in columns)])
        assert line in printed.splitlines()
