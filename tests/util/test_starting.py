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


# As in a program, and then what uses them all the same.
QUICK = """
import sys
from dials_cnn_screen.util.starting import import_dxtbx
import_dxtbx()
import dials_cnn_screen.command_line.cnn_screen
from dials.array_family import flex_ext
print("sklearn" in sys.modules, "pandas._libs" in sys.modules)
"""


def run_quick(then):
    """The lines that the code prints after what is left out."""
    command = [sys.executable, "-c", QUICK + then]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "False False"
    return rest


@pytest.mark.parametrize(
    "then",
    [
        "print(len(flex_ext.pd.DataFrame({'a': [1, 2]})))",
        "import pandas.api.types as types; print(2 * types.is_integer(2))",
        "from pandas import DataFrame; print(2 * (DataFrame is flex_ext.pd.DataFrame))",
        "import pandas as p; p.DataFrame; import pandas; print(len(p.Series([1, 2])))",
    ],
)
def test_pandas_is_there_when_it_is_used(then):
    assert run_quick(then) == ["2"]


def test_sklearn_is_there_afterwards():
    pytest.importorskip("sklearn")
    then = "import sklearn.cluster; print(sklearn.cluster.DBSCAN.__name__)"
    assert run_quick(then) == ["DBSCAN"]


def test_a_dxtbx_that_needs_sklearn_is_left_for_later():
    code = """
import sys
from dials_cnn_screen.util.starting import import_dxtbx
class Needs:
    def find_spec(self, name, path, target=None):
        if name == "dxtbx.model":
            import sklearn
sys.meta_path.insert(0, Needs())
import_dxtbx()
print("sklearn" in sys.modules, "dxtbx.model" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")
