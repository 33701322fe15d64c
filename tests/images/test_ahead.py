from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.images.ahead import MOST, read_ahead
from dials_cnn_screen.images.frame import make_frame
from dials_cnn_screen.images.source import Source

WAYS = "read", "read_for_gpu"


@pytest.fixture
def read(monkeypatch):
    """The numbers that were read: a still is one, and its frame shows it.

    Number 3 cannot be read.
    """
    read = []

    def read_number(source, number):
        read.append(number)
        if number == 3:
            raise OSError("number 3")
        return make_frame(np.full((2, 2), number))

    for way in WAYS:
        monkeypatch.setattr(Source, way, read_number)
    return read


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith("read_ahead")]


@pytest.mark.parametrize("way", WAYS)
def test_errors_belong_to_their_stills(way, read):
    shown = []
    with read_ahead(range(1, 7)) as source:
        for number in range(1, 7):
            try:
                shown.append(getattr(source, way)(number).data[0, 0])
            except OSError as error:
                shown.append(str(error))
    assert shown == [1, 2, "number 3", 4, 5, 6]
    assert read == [1, 2, 3, 4, 5, 6]


def test_no_more_than_some_are_read_ahead(read):
    with read_ahead(range(10, 30)) as source:
        source.read(10)
        wait_for(lambda: len(read) == 1 + MOST)
        time.sleep(0.05)
        assert len(read) == 1 + MOST
        source.read(11)
        wait_for(lambda: len(read) == 2 + MOST)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_read_after_the_end(error, read):
    def fail_half_way():
        with read_ahead(range(10, 30)) as source:
            source.read(10)
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert not reading_threads()
    n_read = len(read)
    time.sleep(0.05)
    assert len(read) == n_read


def test_nothing_is_read_before_the_first_is_asked_for(read):
    with read_ahead(range(10, 30)):
        assert read == []
    assert not reading_threads()
