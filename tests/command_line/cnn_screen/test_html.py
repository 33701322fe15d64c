"""The report of a run, by the program."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"


def page() -> str:
    return html.unescape(Path("cnn_screen.html").read_text(encoding="utf-8"))


def pictures() -> list[str]:
    return re.findall(r"base64,([^\"]*)", page())


def test_how_it_was_made(images, model, in_tmp_path):
    run([images, model, ONE])
    text = page()
    assert f"<code>dials.cnn_screen {images} {model} mp.nproc=1</code>" in text
    assert f"<dd>{in_tmp_path}</dd>" in text
    assert "nproc = 1" in text
    assert "Maximum of 2 of 2 hits" in text
    assert "Maximum of 2 of 2 misses" in text


def test_every_image_is_in_the_table(images, model, column):
    run([images, model, ONE])
    text = Path("cnn_screen.html").read_text(encoding="utf-8")
    found = re.search(r'id="image-table">(.*?)</script>', text, re.DOTALL)
    table = json.loads(found[1])
    classes = [table["classes"][row[2]] for row in table["rows"]]
    assert classes[:-1] == column("class")[:-1]
    assert classes[-1] == "Could not be classified"
    assert [table["folder"] + table["files"][0]] * 7 == column("path")


def test_pictures_of_processes_and_of_a_resumed_run_are_the_same(images, model):
    run([images, model, ONE])
    expected = pictures()
    assert expected
    run([images, model, "mp.nproc=2"])
    assert pictures() == expected
    content = Path("cnn_screen.jsonl").read_text().splitlines(keepends=True)
    Path("cnn_screen.jsonl").write_text("".join(content[:4]))
    run([images, model, ONE, "resume=True"])
    assert pictures() == expected


def test_a_process_that_dies_costs_the_powder_alone(images, model, monkeypatch):
    def die(*_args):
        raise ChildProcessError("a process died")

    monkeypatch.setattr("dials_cnn_screen.outputs.report.project", die)
    run([images, model, ONE])
    assert "Maximum of" not in page()
    log = Path("dials.cnn_screen.log").read_text()
    assert "no virtual powder of hits in the report: a process died" in log
    assert json.loads(Path("cnn_screen.json").read_text())["images"]
