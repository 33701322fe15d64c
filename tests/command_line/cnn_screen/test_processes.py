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

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"


def test_two_processes_give_the_same(write_levels, model, levels):
    write_levels("run1.h5", [*levels, *range(60, 140, 3)])
    run(["run1.h5", model, ONE])
    one = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    run(["run1.h5", model, "mp.nproc=2"])
    two = Path("cnn_screen.json").read_bytes(), Path("hits.expt").read_bytes()
    assert one == two


def test_mpi_gives_the_same(images, model, mpirun, results):
    run([images, model, ONE])
    one = results()
    hits = Path("hits.expt").read_bytes()
    code = "from dials_cnn_screen.command_line.cnn_screen import run; run()"
    ranks = mpirun(2, code, images, model, "mp.method=mpi")
    assert ranks.returncode == 0, ranks.stderr
    assert ranks.stdout.count("Saved the scores") == 1
    assert ranks.stdout.count("2 MPI ranks") == 1
    two = results()
    # Torch may sum in another order in a process that has loaded other libraries.
    for before, after in zip(one["images"], two["images"], strict=True):
        assert after.pop("p_keep") == pytest.approx(before.pop("p_keep"), abs=1e-6)
    assert one == two
    assert Path("hits.expt").read_bytes() == hits


def test_without_mpi4py(images, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(Sorry, match="needs mpi4py"):
        run([images, model, "mp.method=mpi"])


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
def test_interrupt(slow_run, nproc):
    program = slow_run(nproc)
    children = workers(program.pid)
    assert len(children) == (2 if nproc == 2 else 0)
    for pid in (program.pid, *children):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert errors == "Sorry: interrupted; no result was written\n"
    assert program.returncode == 1
    assert_gone(children)
    assert set(os.listdir()) == {"run1.h5", "dials.cnn_screen.log"}


def test_worker_that_is_killed(slow_run):
    program = slow_run(2)
    children = workers(program.pid)
    os.kill(children[0], signal.SIGKILL)
    _, errors = program.communicate(timeout=30)
    assert errors.startswith("Sorry: a process died")
    assert errors.count("\n") == 1
    assert program.returncode == 1
    assert_gone(children)
    assert set(os.listdir()) == {"run1.h5", "dials.cnn_screen.log"}


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
