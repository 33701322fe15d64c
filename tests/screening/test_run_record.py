from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, decide, image_as_json
from dials_cnn_screen.screening.run_record import RunIdentity, RunRecord
from dials_cnn_screen.util.json_lines import read_json_lines

MODEL = ModelSummary("level", "ab12")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5"):
        (tmp_path / name).write_text(name)


def names(n=2):
    return [ImageName(f"{f}.h5", i) for f in "ab" for i in range(1, n + 1)]


def identity(model=MODEL, decision=None, named=None, geometry="g"):
    return RunIdentity.of(model, decision or Decision(), named or names(), geometry)


def result(name, ood_score=1.00004):
    spots = np.array([[3, 4], [5, 6]])
    p = np.array([0.71234567, 0.2, 0.08765433])
    return decide(
        name, make_prediction(p, spots, ood_score), None, Decision(), (1, 2, 3)
    )


def write(n, path="r.jsonl", **options):
    record = RunRecord(path, identity(), resume=False, **options)
    for i, name in enumerate(names()[:n]):
        record.add(i, result(name))
    record.close()


def resume(path="r.jsonl", **changes):
    record = RunRecord(path, identity(**changes), resume=True)
    record.close()
    return record.done


def test_results_come_back_as_they_were():
    write(3)
    done = resume()
    assert list(done) == [0, 1, 2]
    for i, name in enumerate(names()[:3]):
        first, second = result(name), done[i]
        assert image_as_json(i, first, name) == image_as_json(i, second, name)
        assert second.seconds == (1, 2, 3)
        # Not lost by rounding: just over the limit.
        assert second.out_of_distribution


@pytest.mark.parametrize("n_cut", [1, 30, 200])
def test_torn_last_line(n_cut):
    write(3)
    with open("r.jsonl", "r+b") as file:
        file.truncate(os.path.getsize("r.jsonl") - n_cut)
    assert list(resume()) == [0, 1]
    record = RunRecord("r.jsonl", identity(), resume=True)
    record.add(2, result(names()[2]))
    record.close()
    assert [line.get("index") for line in read_json_lines("r.jsonl").lines] == [
        None,
        0,
        1,
        2,
    ]


def test_torn_first_line():
    write(0)
    with open("r.jsonl", "r+b") as file:
        file.truncate(20)
    assert resume() == {}
    assert len(read_json_lines("r.jsonl").lines) == 1


def test_broken_line_in_the_middle(caplog):
    write(3)
    lines = Path("r.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace('"p_keep"', '"p_kept"')
    Path("r.jsonl").write_text("\n".join(lines) + "\n")
    assert list(resume()) == [0, 2]
    assert "1 lines of r.jsonl can't be read" in caplog.text


def test_what_could_not_be_classified_is_tried_again():
    record = RunRecord("r.jsonl", identity(), resume=False)
    record.add(0, decide(names()[0], None, "no disk", Decision()))
    record.add(1, result(names()[1]))
    record.close()
    assert list(resume()) == [1]


def change_file():
    with open("a.h5", "a") as file:
        file.write("more")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ModelSummary("other", "cd34")}, "model.name=level, now other"),
        (
            {"decision": Decision(threshold=0.3)},
            "decision.threshold=0.5, now 0.3. Give the same input",
        ),
        ({"named": names(1)}, "of 4 images, now 2"),
        ({"named": names()[::-1]}, "in another order"),
        ({"named": names()[:2]}, "with b.h5"),
        ({"named": [*names(), ImageName("c.h5")]}, "without c.h5"),
        ({"geometry": "h"}, "with another detector geometry or mask"),
        (change_file, "a.h5 has changed since"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused(changes, message):
    write(2)
    before = Path("r.jsonl").read_text()
    if callable(changes):
        changes()
        changes = {}
    with pytest.raises(ValueError, match="jsonl is the record of another run") as no:
        resume(**changes)
    assert message in str(no.value)
    assert Path("r.jsonl").read_text() == before


@pytest.mark.parametrize("text", ["hello\n", '{"program": "x"}\n', '{"a": 1}\n'])
def test_no_record(text):
    Path("r.jsonl").write_text(text)
    with pytest.raises(ValueError, match="jsonl is no record of dials"):
        resume()
    assert Path("r.jsonl").read_text() == text


def test_nothing_to_resume():
    assert resume() == {}
    assert read_json_lines("r.jsonl").lines[0]["images"]["number"] == 4


def test_an_unfinished_record_is_put_aside(caplog):
    write(3)
    before = Path("r.jsonl").read_text()
    write(4)
    assert Path("r.unfinished.jsonl").read_text() == before
    assert "ended after 3 of 4 images; it is kept as r.unfinished.jsonl" in caplog.text
    os.unlink("r.unfinished.jsonl")
    write(1)
    assert not os.path.exists("r.unfinished.jsonl")
    assert len(read_json_lines("r.jsonl").lines) == 2


def test_two_runs_at_once():
    record = RunRecord("r.jsonl", identity(), resume=False)
    for again in (True, False):
        with pytest.raises(ValueError, match=r"another dials.* is writing"):
            RunRecord("r.jsonl", identity(), resume=again)
    record.close()


def test_lines_for_another_program(capfd):
    write(2, lines="-")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["index"] for line in lines] == [0, 1]
    assert lines == read_json_lines("r.jsonl").lines[1:]


def test_nobody_reads_the_lines(caplog):
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    record = RunRecord("r.jsonl", identity(), resume=False, lines="pipe")
    os.close(reader)
    for i, name in enumerate(names()):
        record.add(i, result(name))
    record.close()
    assert len(read_json_lines("r.jsonl").lines) == 5
    assert "nobody reads output.lines" in caplog.text


def test_without_a_file():
    with pytest.raises(ValueError, match="resume=True needs the record"):
        RunRecord(None, identity(), resume=True)
    record = RunRecord(None, identity(), resume=False)
    record.add(0, result(names()[0]))
    record.close()
    assert list(record.done) == [0]
    assert not os.path.exists("r.jsonl")
