from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")
pytest.importorskip("triton")

import torch

from dials_cnn_screen.images.batch import Layout, common_layout
from dials_cnn_screen.images.frame import Frame, make_frame
from dials_cnn_screen.ke2018.architecture import KE2018
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare
from dials_cnn_screen.ke2018.preprocessing_cuda import PreprocessingKernels

SHAPE = (53, 71)


def noise(dtype=np.uint16):
    data = np.random.default_rng(4).poisson(30, SHAPE)
    data[10:13, 20:22] += 900
    return data.astype(dtype)


def with_holes():
    mask = np.random.default_rng(5).random(SHAPE) < 0.95
    mask[8:34, 40:60] = False
    return mask


def run(frames, layout, size, device):
    kernels = PreprocessingKernels(
        layout, Preprocessing(size=size), len(frames), device
    )
    pixels = np.zeros((len(frames), *layout.padded), layout.dtype)
    for frame, place in zip(frames, pixels, strict=True):
        layout.store(frame, place)
    kernels.run(torch.from_numpy(pixels).to(device))
    return kernels


def check(kernels, frames, size):
    assert kernels.fits.tolist() == [True] * len(frames)
    for image, frame in zip(kernels.images.cpu().numpy(), frames, strict=True):
        expected = prepare(
            frame.data, frame.mask, frame.beam_centre, Preprocessing(size=size)
        )
        np.testing.assert_allclose(image[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(
    ("size", "centre"),
    [(24, (26.5, 35.5)), (21, (3.0, 70.0)), (45, (26.0, 30.0))],
    ids=["inside", "corner", "larger"],
)
def test_kernel_equals_the_reference(dtype, size, centre, triton_device):
    frames = [
        make_frame(data, with_holes(), centre)
        for data in (noise(dtype), noise(dtype)[::-1])
    ]
    check(run(frames, common_layout(frames), size, triton_device), frames, size)


def test_programs_without_masked_pixels(triton_device):
    """They take a shorter way; here every program does."""
    data = np.tile(noise(), (6, 6))[:320, :400]
    frame = make_frame(data, None, (160.0, 200.0))
    kernels = run([frame], common_layout([frame]), 128, triton_device)
    assert kernels._full.tolist()[:-1] == [1] * (len(kernels._full) - 1)
    check(kernels, [frame], 128)


def test_trusted_range(triton_device):
    data = noise()
    layout = Layout(np.ones(SHAPE, bool), (26.5, 35.5), data.dtype, (0.0, 500.0))
    frame = Frame(data, layout.mask, layout.beam_centre)
    kernels = run([frame], layout, 24, triton_device)
    check(kernels, [Frame(data, data <= 500, layout.beam_centre)], 24)


def test_what_does_not_fit(triton_device):
    flat = np.full(SHAPE, 1000, np.uint16)
    flat[20:30, 30:40] = np.random.default_rng(0).integers(1000, 1002, (10, 10))
    steep = flat.astype(np.float32) / 1000
    steep[20, 60] = 1e6  # beside it all that was seen is a rounding error
    for data in (np.full(SHAPE, 1000, np.uint16), steep):
        frame = make_frame(data, None, (26.5, 35.5))
        kernels = run([frame], common_layout([frame]), 48, triton_device)
        assert kernels.fits.tolist() == [False]


def test_network_on_batches(triton_device):
    """All of it, beside the CPU's pipeline."""
    torch.manual_seed(1)
    network = KE2018.network(size=24, channels=(4, 8))
    preparation = KE2018.preparation(size=24)
    frames = [
        make_frame(data, with_holes(), (26.5, 35.5))
        for data in (noise(), noise().T.copy().T)
    ]
    layout = common_layout(frames)
    batches = KE2018.batches(network, preparation, layout, 2, triton_device)
    pixels = torch.zeros(2, *layout.padded, dtype=torch.uint16)
    for frame, place in zip(frames, pixels.numpy(), strict=True):
        layout.store(frame, place)
    arrays = [t.cpu().numpy() for t in batches.run(pixels.to(triton_device))]
    cpu = KE2018.pipeline(network, preparation, "cpu")
    for i, frame in enumerate(frames):
        expected, found = cpu.run(cpu.prepare(frame)), batches.output(arrays, i)
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
        np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
        assert found.spots is None
