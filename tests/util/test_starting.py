"""Ctrl-C before a program has imported all that it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("dials")

# A program, as its file or console script runs it, with a module in the place of
# DIALS's that waits for ever.
CODE = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "dials.util":
            print("importing", flush=True)
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                raise ImportError("numpy.core.multiarray failed to import")
sys.meta_path.insert(0, Slow())
sys.argv = ["{program}", "x.h5"]
from dials_cnn_screen.command_line.{module} import run
"""


@pytest.mark.skipif(os.name == "nt", reason="has no SIGINT for one process")
@pytest.mark.parametrize(
    "program",
    ["/usr/bin/dials.cnn_screen", "command_line/cnn_train.py", "dials.cnn_simulate"],
)
def test_interrupt_while_it_imports(program, tmp_path):
    module = os.path.basename(program).removeprefix("dials.").removesuffix(".py")
    started = subprocess.Popen(
        [sys.executable, "-c", CODE.format(program=program, module=module)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert started.stdout.readline() == "importing\n"
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert errors == "Sorry: interrupted; no result was written\n"
    assert started.returncode == 130


def test_importing_a_program_changes_nothing(tmp_path):
    code = (
        "import signal, dials_cnn_screen.command_line.cnn_screen\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.stdout.strip() == "True"
