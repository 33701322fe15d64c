from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")
pytest.importorskip("triton")

import torch

from dials_cnn_screen.images.batch import Layout, common_layout
from dials_cnn_screen.images.frame import Frame, make_frame
from dials_cnn_screen.spots import candidates_cuda
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.features import describe

SEARCH = CandidateSearch(most=6)
CENTRE = (20.3, 45.1)
# Neither side is a multiple of a block.
SHAPE = (41, 83)


def noise(seed=4, mean=30):
    return np.random.default_rng(seed).poisson(mean, SHAPE)


def with_spots():
    data = noise()
    data[20:23, 30:33] += 60
    data[10, 70] += 200
    data[0, 0] += 500
    data[40, 82] += 500
    data[40, 81] = data[40, 82]  # of equal neighbours the first is the maximum
    return data


def with_holes():
    mask = np.random.default_rng(5).random(SHAPE) < 0.95
    mask[8:34, 40:60] = False  # a block and its neighbours are filled
    return mask


def run(frames, layout, device, search=SEARCH):
    kernels = candidates_cuda.CandidateKernels(layout, search, len(frames), device)
    pixels = np.zeros((len(frames), *layout.padded), layout.dtype)
    for frame, place in zip(frames, pixels, strict=True):
        assert layout.holds(frame)
        layout.store(frame, place)
    kernels.run(torch.from_numpy(pixels).to(device))
    return kernels


def check(kernels, frames, search=SEARCH):
    """Candidates are those of the reference, in order."""
    assert kernels.fits.tolist() == [True] * len(frames)
    for i, frame in enumerate(frames):
        expected = find_candidates(frame.data, frame.mask, frame.beam_centre, search)
        n = len(expected.z)
        places = kernels.places[i].cpu().numpy()
        np.testing.assert_array_equal(places[n:], -1)
        np.testing.assert_array_equal(
            kernels.slow_fast(places[:n]),
            np.stack([expected.slow, expected.fast], axis=1),
        )
        scalars, features = describe(expected)
        batch = kernels.batch
        assert batch.present[i].tolist() == [k < n for k in range(search.most)]
        for found, wanted in (
            (batch.patches[i, :n], expected.patches),
            (batch.scalars[i, :n], scalars),
            (batch.frame[i], features),
        ):
            np.testing.assert_allclose(found.cpu().numpy(), wanted, rtol=0, atol=2e-4)
        assert not batch.patches[i, n:].any()
        assert not batch.scalars[i, n:].any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_kernels_equal_the_reference(dtype, triton_device):
    mask = with_holes()
    dark = noise(6, 0.1)
    dark[30, 20] = 7
    frames = [
        make_frame(data.astype(dtype), mask, CENTRE)
        for data in (noise(), with_spots(), dark)
    ]
    layout = Layout(mask, CENTRE, np.dtype(dtype))
    check(run(frames, layout, triton_device), frames)


def test_floating_point_frames_with_masks_of_their_own(triton_device):
    mask = with_holes()
    rng = np.random.default_rng(7)
    first = with_spots() + rng.normal(0, 0.3, SHAPE)
    second = with_spots() - 100.0
    second[10:12, 69] = np.nan
    frames = [make_frame(data, mask, CENTRE) for data in (first, second)]
    assert not np.array_equal(frames[0].mask, frames[1].mask)
    check(run(frames, common_layout(frames), triton_device), frames)


def test_trusted_range(triton_device):
    data = with_spots().astype(np.uint16)
    trusted = (0.0, 400.0)
    layout = Layout(np.ones(SHAPE, bool), CENTRE, data.dtype, trusted)
    frame = Frame(data, layout.mask, CENTRE)
    kernels = run([frame], layout, triton_device)
    check(kernels, [Frame(data, data <= 400, CENTRE)])


@pytest.mark.parametrize("shape", [(3, 2), (1, 60), (60, 1)])
def test_frames_smaller_than_a_block(shape, triton_device):
    data = np.random.default_rng(8).poisson(30, shape).astype(np.int32)
    frame = make_frame(data, None, (1.0, 1.0))
    layout = common_layout([frame])
    kernels = run([frame], layout, triton_device)
    check(kernels, [frame])


def test_what_does_not_fit(monkeypatch, triton_device):
    flat = np.full(SHAPE, 7, np.uint16)
    frames = [
        make_frame(data.astype(np.uint16), None, CENTRE)
        for data in (flat, with_spots())
    ]
    layout = common_layout(frames)
    assert run(frames, layout, triton_device).fits.tolist() == [False, True]
    monkeypatch.setattr(candidates_cuda, "STRONG", 2)
    assert run(frames, layout, triton_device).fits.tolist() == [False, False]


def test_blocks_that_lose_their_pixels_do_not_fit(triton_device):
    data = with_spots().astype(np.uint16)
    data[16:32, 16:32] = 60000
    layout = Layout(np.ones(SHAPE, bool), CENTRE, data.dtype, (0.0, 50000.0))
    frame = Frame(data, layout.mask, CENTRE)
    assert run([frame], layout, triton_device).fits.tolist() == [False]
