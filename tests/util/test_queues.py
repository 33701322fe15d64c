from __future__ import annotations

import itertools

import pytest

from dials_cnn_screen.util.queues import WorkQueue


def hand_out(queue, workers, most=16):
    """What each worker gets, one after the other, until there is nothing left."""
    got = {worker: [] for worker in workers}
    for worker in itertools.cycle(workers):
        chunk = queue.take(worker, most)
        if not chunk:
            return got
        got[worker].append(chunk)
    return None


@pytest.mark.parametrize("n_files", [1, 2, 3, 7])
@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_everything_once(n_files, n_workers):
    files = [i // 40 % n_files for i in range(200)]
    got = hand_out(WorkQueue(range(200), files, n_workers), range(n_workers))
    chunks = [chunk for chunks in got.values() for chunk in chunks]
    assert sorted(itertools.chain(*chunks)) == list(range(200))
    assert all(len({files[i] for i in chunk}) == 1 for chunk in chunks)
    assert all(len(chunk) <= 16 for chunk in chunks)


def test_one_worker_reads_one_file():
    files = ["a"] * 50 + ["b"] * 50
    got = hand_out(WorkQueue(range(100), files, 2), "xy")
    # At the end one may help the other.
    assert {files[i] for chunk in got["x"][:5] for i in chunk} == {"a"}
    assert {files[i] for chunk in got["y"][:5] for i in chunk} == {"b"}


def test_a_worker_that_is_done_helps_with_the_longest_file():
    files = ["a"] * 4 + ["b"] * 20 + ["c"] * 90
    queue = WorkQueue(range(len(files)), files, 3)
    for worker in "xyz":
        queue.take(worker, 4)
    assert {files[i] for i in queue.take("x", 4)} == {"c"}


def test_the_last_chunks_are_small():
    got = hand_out(WorkQueue(range(64), ["a"] * 64, 2), "xy")
    assert [len(chunk) for chunk in got["x"]][:2] == [8, 6]
    assert len(got["x"][-1]) == 1


def test_only_what_is_to_be_done():
    queue = WorkQueue([1, 3], ["a", "a", "b", "b"], 1)
    assert [queue.take(0, 9), queue.take(0, 9), queue.take(0, 9)] == [[1], [3], []]
