"""What of the benchmark runs without a GPU."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from dials_cnn_screen.studies import benchmark_gpu


def test_answers_are_compared_without_numba(triton_device):
    import torch

    from dials_cnn_screen.images.batch import Layout
    from dials_cnn_screen.images.frame import Frame
    from dials_cnn_screen.ke2018.architecture import KE2018
    from dials_cnn_screen.models.model import Calibration, Model

    mask = np.ones((48, 64), bool)
    mask[20:24] = False
    layout = Layout(mask, (24.0, 32.0), np.dtype(np.uint16))
    frames = [
        Frame(frame.astype(np.uint16), mask, layout.beam_centre)
        for frame in benchmark_gpu.simulated_frames(2, mask.shape)
    ]
    network, preparation = KE2018.network(size=24), KE2018.preparation(size=24)
    model = Model("a", network, "ke2018", preparation, Calibration(), "", {})
    pixels = torch.from_numpy(np.stack([frame.data for frame in frames]))
    batches = KE2018.batches(network, preparation, layout, 2, triton_device)
    difference = benchmark_gpu.compare(model, batches, pixels.to(triton_device), frames)
    assert 0 <= difference < 1e-6


@pytest.mark.parametrize("block", benchmark_gpu.RAW.values())
def test_raw_frames(block):
    for package in benchmark_gpu.FOR_RAW:
        pytest.importorskip(package)
    from dials_cnn_screen.images.frame import Frame

    mask = np.ones((48, 64), bool)
    images = benchmark_gpu.simulated_frames(2, mask.shape).astype(np.uint16)
    frames = [Frame(image, mask, (24.0, 32.0)) for image in images]
    raw = benchmark_gpu.raw_frames(frames, block)
    for frame, image in zip(raw, images, strict=True):
        np.testing.assert_array_equal(frame.frame().data, image)
        assert (len(frame.data) < image.nbytes) == (block > 0)


def test_table():
    result = {
        "first_run_s": 12.0,
        "frame_bytes": 7372800,
        "difference_of_p": 1e-7,
        "device": {
            64: {"frames_per_s": 4e4, "stages_us_per_frame": {"flag": 6.0}},
        },
        "from_pinned_memory": {"frames_per_s": 7000.0},
        "gpu_stream": {"frames_per_s": 1000.0},
        "raw": {
            "bslz4": {
                "frame_bytes": 1e6,
                "frames_per_s": 2e4,
                "stages_us_per_frame": {"lz4": 20.0},
            },
        },
        "latency_ms": 0.5,
    }
    text = benchmark_gpu.table(
        {
            "card": "a card",
            "torch": "2.13",
            "triton": "3.6",
            "bandwidth": {"device_GBps": 4000.0, "host_to_device_GBps": 55.0},
            "models": {"default uint16": result},
        }
    )
    assert "default uint16         64      40000       542535" in text
    assert "pinned       7000         7460" in text
    assert "bslz4      20000        55000" in text
    assert "lz4              20.00 us a frame" in text
