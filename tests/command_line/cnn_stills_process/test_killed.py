"""dials.cnn_stills_process and its processes, killed, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.command_line.cnn_stills_process import run
from dials_cnn_screen.screening.veto_record import Record

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

PROGRAM = "from dials_cnn_screen.command_line.cnn_stills_process import run; run()"
ALL_GOOD = [("a.h5", 1), ("a.h5", 2), ("b.h5", 1), ("b.h5", 2)]

# Half a second more for each image, so that there is time to kill.
SLOW_PROGRAM = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from dials_cnn_screen.screening import veto_processor
screen = veto_processor.screen_still
def slow(*args):
    time.sleep(0.5)
    return screen(*args)
veto_processor.screen_still = slow
{PROGRAM}
"""


def children_of(pid: int) -> list[int]:
    return [
        int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def slow_run(write_levels, options) -> Iterator[subprocess.Popen]:
    """A run of 40 images on two processes, both of which have begun."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc")
    write_levels("many.h5", [250] * 40)
    with open("out.txt", "w") as out, open("err.txt", "w") as err:
        program = subprocess.Popen(
            [sys.executable, "-c", SLOW_PROGRAM, "many.h5", *options, "mp.nproc=2"],
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    wait_for(lambda: len(list(Path().glob(".cnn_screen*"))) == 2)
    yield program
    program.kill()
    program.wait()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_their_parent(slow_run, kill, write_levels, options, names):
    children = children_of(slow_run.pid)
    assert len(children) >= 2
    slow_run.send_signal(kill)
    slow_run.wait()
    wait_for(lambda: not any(map(is_running, children)), seconds=5)
    left = list(Path().glob(".cnn_screen*"))
    assert len(left) == 2
    # The next run has nothing of it.
    write_levels("few.h5", [250] * 3)
    run(["few.h5", *options])
    assert names() == [("few.h5", i) for i in (1, 2, 3)]
    assert not list(Path().glob(".cnn_screen*"))


def test_a_process_that_is_killed(slow_run, names, errors):
    (part, _) = Path().glob(".cnn_screen*")
    worker = int(part.stem.split("_")[-1].split("@")[0])
    assert worker in children_of(slow_run.pid)
    wait_for(lambda: len(part.read_text().splitlines()) >= 3)
    os.kill(worker, signal.SIGKILL)
    assert slow_run.wait(timeout=60) == 1
    assert names() == [("many.h5", i) for i in range(1, 41)]
    not_reached = errors()
    assert 10 <= len(not_reached) <= 17
    assert all(e.startswith("not reached: its proc") for e in not_reached.values())
    message = Path("err.txt").read_text()
    assert f"{len(not_reached)} of 40 images were not reached" in message
    # Those that it had done: their files are written at its end.
    assert f"{20 - len(not_reached)} of 40 images could not be processed" in message
    assert "their files are lost" in message or "its files are lost" in message
    assert "Traceback" not in message
    log = Path("dials.process.log").read_text()
    assert f"ran on {40 - len(not_reached)} of {40 - len(not_reached)} images" in log


def test_interrupt(slow_run, names, errors):
    os.killpg(slow_run.pid, signal.SIGINT)  # as Ctrl-C does
    assert slow_run.wait(timeout=60) == 1
    assert names() == [("many.h5", i) for i in range(1, 41)]
    assert set(errors().values()) == {"not reached: interrupted"}
    assert Path("err.txt").read_text().startswith("Sorry: ")


def test_parts_of_other_runs(good, options, names):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    running = Record.new(Path())
    for record in (
        running,
        Record(Path(), running.run.replace(f"{os.getpid()}@", f"{os.getppid()}@")),
        Record(Path(), running.run.replace(f"{os.getpid()}@", f"{gone.pid}@")),
        Record(Path(), "1234@another.machine_01234567"),
    ):
        record.finalized()
    run([*good, *options])
    assert names() == ALL_GOOD
    left = sorted(path.name.split("@")[0] for path in Path().glob(".cnn_screen*"))
    assert left == sorted([".cnn_screen_1234", f".cnn_screen_{os.getppid()}"])


def test_a_line_that_is_cut_off(good, options, monkeypatch, names):
    usual = Record.finalized

    def finalized(self):
        usual(self)
        (part,) = self._paths()
        part.write_text(part.read_text() + '{"image": {"ind')

    monkeypatch.setattr(Record, "finalized", finalized)
    run([*good, *options])
    assert names() == ALL_GOOD
