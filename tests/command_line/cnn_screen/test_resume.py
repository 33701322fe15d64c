"""A run that ends early in any way, and is resumed, is as one that does not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.util.json_lines import read_json_lines

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
OUTPUTS = ("cnn_screen.json", "hits.expt")


def outputs() -> list[bytes]:
    return [Path(name).read_bytes() for name in OUTPUTS]


def lines() -> list[dict]:
    return read_json_lines("cnn_screen.jsonl").lines


def test_record_has_every_image(images, model, results):
    run([images, model, ONE])
    head, *entries = lines()
    assert head["images"]["number"] == 7
    assert [entry.pop("seconds") is not None for entry in entries] == [True] * 7
    assert entries == results()["images"]


@pytest.mark.parametrize("n_left", [0, 1, 3, 7])
def test_resumed_run_is_as_an_unbroken_one(images, model, n_left, monkeypatch):
    run([images, model, ONE])
    expected = outputs()
    content = Path("cnn_screen.jsonl").read_text().splitlines(keepends=True)
    torn = content[-1][:30] if n_left < 7 else ""
    Path("cnn_screen.jsonl").write_text("".join(content[: n_left + 1]) + torn)
    from dials_cnn_screen.screening import run as screening

    seen = []
    screen_frame = screening.screen_frame

    def counted(screener, still):
        seen.append(still.name.number)
        return screen_frame(screener, still)

    monkeypatch.setattr(screening, "screen_frame", counted)
    run([images, model, ONE, "resume=True"])
    assert outputs() == expected
    # The last can't be classified: it is tried again.
    assert seen == list(range(min(n_left, 6) + 1, 8))
    assert {line["index"] for line in lines()[1:]} == set(range(7))


def test_a_finished_run_is_written_again(images, model):
    run([images, model, ONE])
    expected = outputs()
    for name in OUTPUTS:
        os.unlink(name)
    run([images, model, ONE, "resume=True"])
    assert outputs() == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["decision.threshold=0.3"], "decision.threshold=0.5, now 0.3"),
        (["other.h5"], "without .*other.h5"),
    ],
)
def test_another_run_is_refused(images, model, write_levels, changed, message):
    write_levels("other.h5", [50])
    run([images, model, ONE])
    before = [Path("cnn_screen.jsonl").read_bytes(), *outputs()]
    with pytest.raises(Sorry, match=f"record of another run: {message}") as problem:
        run([images, model, ONE, *changed, "resume=True"])
    assert "\n" not in str(problem.value)
    assert [Path("cnn_screen.jsonl").read_bytes(), *outputs()] == before


def test_file_that_can_not_be_read(images, model):
    Path("bad.h5").write_text("hello")
    for more in ([], ["resume=True"]):
        with pytest.raises(Sorry, match=r"not screened, .* be read: bad.h5$"):
            run([images, "bad.h5", model, ONE, *more])
        assert json.loads(Path("cnn_screen.json").read_text())["summary"]["images"] == 8


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_moment(write_levels, model, start, seed):
    """studies/kill_runs.py does so more often, and on more processes."""
    write_levels("run1.h5", range(40, 240))
    run(["run1.h5", model, ONE])
    expected = outputs()
    for name in (*OUTPUTS, "cnn_screen.jsonl"):
        os.unlink(name)
    slowly = (
        "from dials_cnn_screen.screening import run as screening\n"
        "from time import sleep\n"
        "screen_frame = screening.screen_frame\n"
        "screening.screen_frame = lambda *a: sleep(0.01) or screen_frame(*a)\n"
    )
    program = start("run1.h5", model, ONE, before=slowly)
    while not Path("cnn_screen.jsonl").exists():
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 2))
    program.kill()
    program.communicate()
    n = len({line.get("index") for line in lines()} - {None})
    run(["run1.h5", model, ONE, "resume=True"])
    assert outputs() == expected
    entries = [line["index"] for line in lines()[1:]]
    assert sorted(entries) == list(range(200))
    assert n <= 200


def test_lines_on_the_standard_output(images, model, start):
    program = start(images, model, ONE, "output.lines=-", "html=None")
    out, errors = program.communicate(timeout=120)
    assert program.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == lines()[1:]
    assert "Screening 7 images" in errors


def test_lines_into_a_pipe(images, model):
    os.mkfifo("pipe")
    with subprocess.Popen(
        [sys.executable, "-c", "print(len(open('pipe').readlines()))"],
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        run([images, model, ONE, "output.lines=pipe", "html=None"])
        assert reader.communicate(timeout=60)[0] == "7\n"


def test_an_output_that_fails_after_all_images(images, model, results, monkeypatch):
    def fail(*_args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dials_cnn_screen.outputs.run.write_kept", fail)
        message = "^No space left on device; all results are in cnn_screen.jsonl, and "
        with pytest.raises(Sorry, match=message):
            run([images, model, ONE])
    assert not Path("cnn_screen.json").exists()
    run([images, model, ONE, "resume=True"])
    assert results()["summary"]["images"] == len(results()["images"]) == 7
    log = Path("dials.cnn_screen.log").read_text()
    assert "Saved 5 of 7 images to hits.expt" in log
