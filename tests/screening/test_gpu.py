from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")
pytest.importorskip("triton")

from dials_cnn_screen.images.frame import Frame, make_frame
from dials_cnn_screen.images.frame_cpu import fill_frame
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening.gpu import classify_stream
from dials_cnn_screen.single_frames import SingleFrames
from dials_cnn_screen.spots.architecture import SPOTS
from dials_cnn_screen.util.devices import local_rank

SHAPE, CENTRE = (33, 64), (17.0, 30.2)


@pytest.fixture(scope="module")
def model():
    return replace(load_model("default"), preparation=SPOTS.preparation(most=4))


def frame_with(height, mask=None, shape=SHAPE):
    data = np.random.default_rng(height).poisson(30, shape).astype(np.float32)
    data[10:12, 20:22] += height
    return make_frame(data, mask, CENTRE)


def check(found, expected):
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)
    np.testing.assert_array_equal(found.spots, expected.spots)
    assert found.ood_score == pytest.approx(expected.ood_score, abs=1e-3)
    assert found.label == expected.label


def test_stream_keeps_the_order_whatever_fits(model, triton_device, caplog):
    some = np.random.default_rng(0).random(SHAPE) < 0.97
    flat = make_frame(np.full(SHAPE, 3, np.float32), None, CENTRE)
    frames = [
        frame_with(0),
        frame_with(300, some),
        flat,
        frame_with(100, shape=(40, 40)),
        frame_with(200),
    ]
    with caplog.at_level(logging.INFO, "dials.cnn_screen"):
        found = list(
            classify_stream(model, iter(frames), batch=2, device=triton_device)
        )
    for i in (0, 1, 3, 4):
        check(found[i], model.predict(frames[i].data, frames[i].mask, CENTRE))
    assert "every usable pixel has the same value, 3" in str(found[2])
    assert "2 of 5 frames did not fit the GPU's kernels" in caplog.text


def test_overloads_are_signal(model, triton_device):
    """Frames with overloaded spots and masked overloads, each on other pixels."""
    frames = []
    for seed in range(3):
        raw = np.random.default_rng(seed).poisson(30, SHAPE).astype(np.int32)
        raw[4 + seed : 7 + seed, 40:43] = 70000
        raw[18:30, 5 + seed : 20 + seed] = raw[31, 50 + seed] = 70000
        data, mask = np.empty(SHAPE, np.float32), np.empty(SHAPE, bool)
        low, high = np.int32(0), np.int32(60000)
        used = fill_frame(raw, np.ones(SHAPE, bool), low, high, data, mask)
        assert np.count_nonzero(~mask) == 12 * 15 + 1
        frames.append(Frame(data, mask, CENTRE, used))
    found = list(classify_stream(model, iter(frames), batch=3, device=triton_device))
    for one, frame in zip(found, frames, strict=True):
        check(one, model.predict(frame.data, frame.mask, CENTRE))
        assert one.n_spots >= 1


def test_stream_of_nothing(model, triton_device):
    assert list(classify_stream(model, iter([]), device=triton_device)) == []


def test_single_frames(model, triton_device):
    """As one process after the other classifies them on a GPU."""
    network, search = model.network, model.preparation
    cpu = SPOTS.pipeline(network, search, "cpu")
    pipeline = SingleFrames(
        lambda layout: SPOTS.batches(network, search, layout, 1, triton_device),
        cpu,
        triton_device,
    )
    some = np.random.default_rng(0).random(SHAPE) < 0.97
    flat = make_frame(np.full(SHAPE, 3, np.float32), None, CENTRE)
    for frame in (frame_with(300, some), frame_with(300), frame_with(0), flat):
        found = pipeline.run(pipeline.prepare(frame))
        expected = cpu.run(cpu.prepare(frame))
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)
        np.testing.assert_array_equal(found.spots, expected.spots)
    assert pipeline.n_left_to_cpu == 1


def test_processes_share_the_cards(monkeypatch):
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_RANK", raising=False)
    assert local_rank() == 0
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert local_rank() == 3


@pytest.mark.gpu
def test_default_model_on_a_card(model):
    """Through CUDA graphs and streams, at the size of a detector."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    whole = load_model("default")
    frames = [frame_with(height, shape=(1035, 1031)) for height in range(0, 500, 10)]
    for found, frame in zip(classify_stream(whole, iter(frames)), frames, strict=True):
        check(found, whole.predict(frame.data, frame.mask, CENTRE))
