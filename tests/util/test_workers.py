from __future__ import annotations

import operator
import os
import subprocess
import sys
import threading

import pytest

from dials_cnn_screen.util.workers import map_on_workers


def start(factor):
    return {"factor": factor, "process": os.getpid(), "calls": 0}


def multiply(state, item):
    state["calls"] += 1
    return item * state["factor"], state["process"] == os.getpid(), state["calls"]


def fail_at_7(state, item):
    if item == 7:
        raise ValueError("seven")
    return item


def die_at_7(state, item):
    if item == 7:
        os._exit(1)
    return item


@pytest.mark.parametrize("nproc", [1, 2])
def test_results_are_in_order_and_the_state_is_kept(nproc):
    results = list(map_on_workers(multiply, range(40), nproc, start, (3,)))
    assert [product for product, _, _ in results] == [3 * i for i in range(40)]
    # The state was made in the process that does the work, and once.
    assert all(there for _, there, _ in results)
    calls = sum(1 for _, _, call in results if call == 1)
    assert 1 <= calls <= nproc


def test_processes_that_are_no_copies():
    # Of functions that a new process can import, as it can't import a test.
    results = map_on_workers(operator.mul, range(40), 2, int, (3,), fork=False)
    assert list(results) == [3 * i for i in range(40)]


def test_a_process_with_threads_is_not_copied():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    forked = []
    os.register_at_fork(before=lambda: forked.append(True))
    try:
        results = map_on_workers(operator.mul, range(40), 2, int, (3,))
        assert list(results) == [3 * i for i in range(40)]
    finally:
        stop.set()
        thread.join()
    assert forked == []
    # Without it, it is.
    assert list(map_on_workers(operator.mul, range(4), 2, int, (3,))) == [0, 3, 6, 9]
    assert forked


def test_nothing_to_do():
    assert list(map_on_workers(multiply, [], 2, start, (3,))) == []


@pytest.mark.parametrize("nproc", [1, 2])
def test_an_error_reaches_the_caller(nproc):
    with pytest.raises(ValueError, match="seven"):
        list(map_on_workers(fail_at_7, range(20), nproc, start, (1,)))


def test_a_process_that_dies():
    with pytest.raises(ChildProcessError, match=r"smaller mp\.nproc"):
        list(map_on_workers(die_at_7, range(20), 2, start, (1,)))


@pytest.mark.parametrize("nproc", [1, 2])
def test_stopping_half_way(nproc):
    results = map_on_workers(multiply, range(100), nproc, start, (1,))
    assert next(results)[0] == 0
    results.close()
    with pytest.raises(StopIteration):
        next(results)


def test_needs_no_dials():
    code = """
import sys
for name in ("dials", "dxtbx", "libtbx", "wx"):
    sys.modules[name] = None
import dials_cnn_screen.util.workers, dials_cnn_screen.util.parameters
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_torch_has_one_thread_in_each_process():
    code = """
import torch
from dials_cnn_screen.util.workers import map_on_workers
def count(state, item):
    return torch.get_num_threads()
torch.set_num_threads(2)
print(*map_on_workers(count, range(8), 2, int), torch.get_num_threads())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert done.stdout.split() == [b"1"] * 8 + [b"2"]
