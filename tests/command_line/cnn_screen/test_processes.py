from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.util.json_lines import read_json_lines

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
PROGRAM = "from dials_cnn_screen.command_line.cnn_screen import run; run()"


def test_two_processes_give_the_same(write_levels, model, levels):
    write_levels("run1.h5", [*levels, *range(60, 140, 3)])
    run(["run1.h5", model, ONE])
    one = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    run(["run1.h5", model, "mp.nproc=2"])
    two = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    assert one == two


COUNTING = """
import os
def count():
    print("threads:", len(os.listdir("/proc/self/task")), flush=True)
os.register_at_fork(after_in_parent=count)
"""


def test_only_a_process_of_one_thread_is_forked(write_levels, model, levels):
    """A copy of a process with threads may wait for ever; Python 3.12 warns of it."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc")
    write_levels("run1.h5", levels)
    terminal, program_end = os.openpty()  # there is a progress bar
    done = subprocess.run(
        [sys.executable, "-c", COUNTING + PROGRAM, "run1.h5", model, "mp.nproc=2"],
        stdout=subprocess.PIPE,
        stderr=program_end,
        text=True,
        check=True,
    )
    os.close(program_end)
    assert "Screening: 100%" in os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    counts = [line for line in done.stdout.splitlines() if line.startswith("threads")]
    assert counts
    assert set(counts) == {"threads: 1"}


SLOW = """
from dials_cnn_screen.screening import run as screening
from time import sleep
screen_frame = screening.screen_frame
def slowly(*args):
    print("classifying", flush=True)
    sleep(0.1)
    return screen_frame(*args)
screening.screen_frame = slowly
"""


def workers(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def wait_for_the_first_image(program: subprocess.Popen) -> None:
    for line in program.stdout:
        if "classifying" in line:
            return
    pytest.fail(program.stderr.read())


def wait_for_lines(n: int) -> None:
    """Wait until the record has n lines."""
    deadline = time.monotonic() + 60
    path = Path("cnn_screen.jsonl")
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"processes left: {left}"
        time.sleep(0.05)


@pytest.fixture
def slow_run(write_levels, model, start):
    """Start the program on 200 images at 0.1 s each; kill what is left of it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    write_levels("run1.h5", [50] * 200)
    programs = []

    def start_slow_run(nproc: int) -> subprocess.Popen:
        programs.append(start("run1.h5", model, f"mp.nproc={nproc}", before=SLOW))
        wait_for_the_first_image(programs[-1])
        return programs[-1]

    yield start_slow_run
    for program in programs:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("nproc", [1, 2])
def test_interrupt(slow_run, nproc, results):
    program = slow_run(nproc)
    children = workers(program.pid)
    assert len(children) == (2 if nproc == 2 else 0)
    wait_for_lines(3)
    for pid in (program.pid, *children):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    out, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert_gone(children)
    n = len(results()["images"])
    assert 1 <= n < 200
    assert results()["summary"]["not_reached"] == 200 - n
    told = f"stopped by Ctrl-C: {n} of 200 images are done and written; resume=True"
    assert told in errors
    assert f"The run was interrupted: this is of {n} of 200 images" in out
    assert f"this is of {n} of 200 images" in Path("cnn_screen.html").read_text()
    assert len(read_json_lines("cnn_screen.jsonl").lines) == n + 1


def test_termination(slow_run, results):
    program = slow_run(2)
    wait_for_lines(3)
    program.terminate()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 143
    assert "stopped by SIGTERM: " in errors
    assert results()["summary"]["not_reached"] > 0


def test_interrupt_before_the_first_image(slow_run):
    program = slow_run(1)
    os.kill(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert errors.endswith("Sorry: interrupted; no result was written\n")
    assert program.returncode == 130
    assert not {"cnn_screen.json", "hits.expt"} & set(os.listdir())


def test_worker_that_is_killed(slow_run, results):
    program = slow_run(2)
    children = workers(program.pid)
    wait_for_lines(3)
    os.kill(children[0], signal.SIGKILL)
    _, errors = program.communicate(timeout=60)
    assert errors.startswith("Sorry: a process died")
    assert "of 200 images are done and written; resume=True" in errors
    assert errors.count("\n") == 1
    assert program.returncode == 1
    assert_gone(children)
    assert 0 < len(results()["images"]) < 200


def test_workers_end_with_a_parent_that_is_killed(slow_run):
    program = slow_run(2)
    children = workers(program.pid)
    program.kill()
    program.wait()
    assert_gone(children)


LOADED = """
import sys
from dials_cnn_screen.command_line.cnn_screen import run
run(sys.argv[1:])
print("LOADED", *({"torch", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize("output", ["cnn_screen.html", "None"])
def test_no_torch_for_the_default_model_on_a_cpu(write_cxidb76, output):
    """Nor matplotlib without a report: they take a second, and 150 MB."""
    data = np.random.default_rng(0).poisson(20, (2, 64, 64)).astype(np.int32)
    write_cxidb76("run1.h5", data, kind="Rayonix")
    program = [sys.executable, "-c", LOADED, "run1.h5", ONE, "device=cpu"]
    done = subprocess.run(
        [*program, f"output.html={output}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.strip().splitlines()[-1].split()[1:]
    assert loaded == ([] if output == "None" else ["matplotlib"])
