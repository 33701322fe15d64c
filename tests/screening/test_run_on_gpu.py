"""A run on a GPU: the stream of frames, with what reads stills replaced."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("triton")

from dials_cnn_screen.images.ahead import read_ahead
from dials_cnn_screen.images.frame import make_frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening import gpu, ranks, stream
from dials_cnn_screen.screening import run as screening
from dials_cnn_screen.screening.decision import Decision, KeptBecause
from dials_cnn_screen.screening.run import make_screener, screen
from dials_cnn_screen.screening.stream import in_order, stream_results
from dials_cnn_screen.spots import architecture
from dials_cnn_screen.spots.architecture import SPOTS
from dials_cnn_screen.util.workers import Processes

SHAPE = (33, 64)


@pytest.fixture
def model():
    return replace(load_model("default"), preparation=SPOTS.preparation(most=4))


@pytest.fixture
def stills(monkeypatch, triton_device):
    """Four stills, the second unreadable, the third flat; a GPU, or what is for one.

    Where there is no card its kernels are interpreted on the CPU.
    """
    if triton_device == "cpu":
        for module in (architecture, gpu):
            monkeypatch.setattr(module, "use_card", lambda: "cpu")
    monkeypatch.setattr(stream, "choose_device", lambda device: device)
    monkeypatch.setattr(gpu, "BATCH", 2)

    def read(source, still):
        if still.name.number == 2:
            raise OSError("cannot\n read it")
        height = 60 * still.name.number
        data = np.random.default_rng(height).poisson(30, SHAPE).astype(np.float32)
        data[10:12, 20:22] += height
        if still.name.number == 3:
            data[:] = 5
        return make_frame(data)

    for way in ("read", "read_for_gpu"):
        monkeypatch.setattr(screening.Source, way, read)
    return [SimpleNamespace(name=ImageName("a.h5", i + 1)) for i in range(4)]


def check(found, model, stills):
    expected = list(screen(stills, model, "cpu", Decision(), 1))
    assert [one.name for one in found] == [still.name for still in stills]
    for one, other in zip(found, expected, strict=True):
        assert (one.error, one.kept, one.label) == (
            other.error,
            other.kept,
            other.label,
        )
        if other.prediction is not None:
            np.testing.assert_allclose(
                one.prediction.probabilities, other.prediction.probabilities, atol=1e-3
            )
    assert found[1].error == "cannot read it"
    assert found[1].kept_because is KeptBecause.ERROR
    assert found[2].error == "every usable pixel has the same value, 5"
    assert [one.left_to_cpu for one in found] == [i == 2 for i in range(4)]


@pytest.fixture
def launched(monkeypatch):
    """The batches that were computed in this process."""
    launch, batches = gpu.Buffer.launch, []

    def note(buffer):
        batches.append(buffer)
        launch(buffer)

    monkeypatch.setattr(gpu.Buffer, "launch", note)
    return batches


def test_one_process(model, stills, launched, caplog):
    with caplog.at_level(logging.INFO, "dials.cnn_screen"):
        found = in_order(
            stream_results(stills, model, Decision(), "cuda", Processes(nproc=1))
        )
    check(found, model, stills)
    assert len(launched) == 2
    assert "1 of 4 images did not fit the GPU's kernels" in caplog.text
    assert all(len(one.seconds) == 3 and min(one.seconds) >= 0 for one in found)


def test_several_processes(model, stills, monkeypatch):
    """In parts; what is replaced here reaches processes that are forked alone."""
    parts = []

    def in_copies(work, items, *others, chunk, fork):
        parts.extend(map(len, items))
        assert (chunk, fork) == (1, False)  # as CUDA needs it
        return map_on_workers(work, items, *others, chunk=chunk)

    map_on_workers = screening.map_on_workers
    monkeypatch.setattr(screening, "map_on_workers", in_copies)
    check(list(screen(stills, model, "cuda", Decision(), 2)), model, stills)
    assert parts == [2, 2]


def test_mpi_ranks(model, stills, launched):
    """A rank puts what it is given through its stream."""
    chunks, sent = [[0, 1, 2, 3], []], []
    world = SimpleNamespace(
        rank=1,
        send=lambda message, dest: sent.append(message),
        recv=lambda source: chunks.pop(0),
    )
    with read_ahead([]) as source:
        screener = make_screener(model, "cuda", Decision())
        ranks._follow(stills, screener._replace(source=source), world)
    found = dict(result for _, result in sent if result is not None)
    check([found[i] for i in range(4)], model, stills)
    assert sent.count((1, None)) == 2  # asks for more before the last image is done
    assert len(launched) == 2


def test_other_work_takes_one_still_after_the_other(model, stills, launched):
    def work(screener, still):
        return still.name.number

    found = list(screen(stills, model, "cuda", Decision(), 1, work))
    assert found == [1, 2, 3, 4]
    assert launched == []
