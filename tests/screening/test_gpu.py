from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")
pytest.importorskip("triton")

from dials_cnn_screen.images.compression import compress
from dials_cnn_screen.images.frame import Frame, make_frame
from dials_cnn_screen.images.frame_cpu import fill_frame
from dials_cnn_screen.images.raw_frame import Encoding, RawFrame
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening import gpu, gpu_batch
from dials_cnn_screen.screening.gpu import GpuStream
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
    if expected.candidates is not None:
        places = found.candidates.places
        np.testing.assert_array_equal(places, expected.candidates.places)
    assert found.ood_score == pytest.approx(expected.ood_score, abs=1e-3)
    assert found.label == expected.label


def classify(model, frames, device, batch=2):
    return list(GpuStream(model, batch=batch, device=device).classify(iter(frames)))


def predict(model, frame):
    return model.predict(frame.data, frame.mask, frame.beam_centre)


def test_stream_keeps_the_order_whatever_fits(model, triton_device):
    some = np.random.default_rng(0).random(SHAPE) < 0.97
    flat = make_frame(np.full(SHAPE, 3, np.float32), None, CENTRE)
    broken = OSError("the file ends")
    frames = [
        frame_with(0),
        frame_with(300, some),
        flat,
        broken,
        frame_with(100, shape=(40, 40)),
        frame_with(200),
    ]
    found = classify(model, frames, triton_device)
    for i in (0, 1, 4, 5):
        check(found[i].outcome, predict(model, frames[i]))
    assert "every usable pixel has the same value, 3" in str(found[2].outcome)
    assert found[3].outcome is broken
    assert [i for i, one in enumerate(found) if one.left_to_cpu] == [2, 4]


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
    for one, frame in zip(
        classify(model, frames, triton_device, batch=3), frames, strict=True
    ):
        check(one.outcome, predict(model, frame))
        assert not one.left_to_cpu


def raw_with(height, encoding):
    image = np.random.default_rng(height).poisson(30, SHAPE).astype(np.uint16)
    image[10:12, 20:22] += np.uint16(height)
    data = compress(image, encoding.compression, encoding.block_bytes)
    return RawFrame(data, encoding, CENTRE)


@pytest.mark.parametrize(
    ("block", "damage"), [(0, "bytes and not"), (1024, "can't be decompressed")]
)
def test_raw_frames(model, block, damage, triton_device):
    """Frames are made on the device; what it is no good for is left to the CPU."""
    pytest.importorskip("lz4")
    pytest.importorskip("dectris")
    mask = np.random.default_rng(0).random(SHAPE) < 0.97
    mask[8:14, 18:24] = True
    encoding = Encoding(np.dtype(np.uint16), block, mask, 0, 500, None)
    frames = [raw_with(height, encoding) for height in (0, 200, 300, 100, 900)]
    damaged = replace(frames[0], data=frames[0].data[:-40])
    other = replace(frames[0], encoding=replace(encoding, high=400))
    plain = frames[1].frame()
    order = [*frames[:3], damaged, other, plain, *frames[3:]]
    found = classify(model, order, triton_device, batch=3)
    for one, frame in zip(found, order, strict=True):
        if frame is damaged:
            assert damage in str(one.outcome)
        else:
            check(
                one.outcome, predict(model, frame if frame is plain else frame.frame())
            )
    assert [one.left_to_cpu for one in found] == [False] * 3 + [True] * 3 + [
        False,
        True,
    ]


def test_gpu_that_reads_other_pixels_is_not_used(
    model, triton_device, monkeypatch, caplog
):
    pytest.importorskip("lz4")
    pytest.importorskip("dectris")
    encoding = Encoding(np.dtype("u2"), 1024, np.ones(SHAPE, bool), 0, 500, None)
    frames = [raw_with(height, encoding) for height in (100, 200)]

    def unpack(room, as_it_is=gpu_batch.RawRoom.unpack):
        pixels, misfits = as_it_is(room)
        return pixels + (pixels == 30), misfits

    monkeypatch.setattr(gpu_batch.RawRoom, "unpack", unpack)
    for one, frame in zip(classify(model, frames, triton_device), frames, strict=True):
        check(one.outcome, predict(model, frame.frame()))
        assert one.left_to_cpu
    assert "reads other pixels from an image than the CPU" in caplog.text


def test_stream_that_turns_to_raw_frames(model, triton_device):
    """Buffers are made anew for the other kind of frames."""
    pytest.importorskip("lz4")
    pytest.importorskip("dectris")
    encoding = Encoding(np.dtype("u2"), 1024, np.ones(SHAPE, bool), 0, 500, None)
    packed = [raw_with(height, encoding) for height in (100, 200)]
    plain = [frame.frame() for frame in packed]
    damaged = replace(packed[0], data=b"nothing")
    stream = GpuStream(model, batch=2, device=triton_device)
    for some in (plain, packed, [damaged, damaged], plain):
        found = list(stream.classify(iter(some)))
        if damaged in some:
            assert all("bytes, too few" in str(one.outcome) for one in found)
            continue
        assert not any(one.left_to_cpu for one in found)
        for one, frame in zip(found, plain, strict=True):
            check(one.outcome, predict(model, frame))


def test_stream_of_nothing(model, triton_device):
    assert classify(model, [], triton_device) == []
    assert [one.outcome.args for one in classify(model, [OSError(1)], "cpu")] == [(1,)]


def test_stream_goes_on_with_another_detector(model, triton_device):
    """Buffers are made anew for a group of frames of another shape, not for one."""
    frames = [frame_with(100), frame_with(200, shape=(40, 40))]
    expected = [predict(model, frame) for frame in frames]
    stream = GpuStream(model, batch=2, device=triton_device)
    # One that is in a batch with another like those before it is left to the CPU.
    for order, left in (
        ([0], [False]),
        ([1, 1, 1], [False, False, False]),
        ([1, 0], [False, True]),
    ):
        found = list(stream.classify(frames[i] for i in order))
        for one, i in zip(found, order, strict=True):
            check(one.outcome, expected[i])
        assert [one.left_to_cpu for one in found] == left


@pytest.mark.parametrize(("when", "n_on_gpu"), [("launch", 0), ("outputs", 2)])
def test_a_gpu_that_fails_leaves_the_rest_to_the_cpu(
    model, triton_device, monkeypatch, caplog, when, n_on_gpu
):
    some = np.random.default_rng(0).random(SHAPE) < 0.97
    frames = [frame_with(h, some if h > 150 else None) for h in range(0, 300, 50)]
    work, calls = getattr(gpu.Buffer, when), []

    def fail(buffer):
        calls.append(buffer)
        if len(calls) == 2:
            raise RuntimeError("an illegal memory\naccess")
        return work(buffer)

    monkeypatch.setattr(gpu.Buffer, when, fail)
    found = classify(model, frames, triton_device)
    for one, frame in zip(found, frames, strict=True):
        check(one.outcome, predict(model, frame))
    assert [one.left_to_cpu for one in found] == [
        i >= n_on_gpu for i in range(len(frames))
    ]
    assert caplog.text.count("The GPU failed (an illegal memory access)") == 1


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
    for found, frame in zip(classify(whole, frames, None, 16), frames, strict=True):
        check(found.outcome, predict(whole, frame))
