from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")
pytest.importorskip("triton")
pytest.importorskip("lz4")
pytest.importorskip("dectris")

import torch

from dials_cnn_screen.images.batch import raw_layout
from dials_cnn_screen.images.compression import compress
from dials_cnn_screen.images.raw_frame import Encoding, RawFrame
from dials_cnn_screen.images.raw_frame_cuda import RawFrameKernels

# Pixels whose number is no multiple of eight, and a last block that is shorter.
SHAPE, BLOCK, CENTRE = (31, 45), 1024, (15.0, 20.5)
HIGH = 200


def make_images(dtype, n=2):
    """Values below, at and above both ends of the range, and what means no value."""
    images = np.random.default_rng(1).poisson(3, (n, *SHAPE)).astype(dtype)
    greatest = np.iinfo(dtype).max
    images[:, 3, 3:9] = HIGH - 1, HIGH, HIGH + 1, greatest, greatest - 1, greatest - 2
    images[:, -1, -2:] = HIGH + 1
    if np.dtype(dtype).kind == "i":
        images[:, 5, 3:6] = -1, -2, np.iinfo(dtype).min
    return images


def encode(images, top=None, mask=None, block=BLOCK):
    mask = np.random.default_rng(2).random(SHAPE) < 0.9 if mask is None else mask
    encoding = Encoding(images.dtype, block, mask, 0, HIGH, top)
    how = encoding.compression, block
    return [RawFrame(compress(image, *how), encoding, CENTRE) for image in images]


def run(frames, layout, device):
    """The frames on the device, and their misfits, with room for one more."""
    n_blocks = layout.encoding.n_blocks
    places = np.zeros((len(frames) + 1, n_blocks + 1, 2), np.int32)
    start = 0
    for frame, place in zip(frames, places, strict=False):
        assert frame.find_blocks(place)
        place[:, 0] += start
        start += len(frame.data)
    packed = np.frombuffer(b"".join(frame.data for frame in frames), np.uint8).copy()
    kernels = RawFrameKernels(layout, len(places), device)
    arrays = (torch.from_numpy(array).to(device) for array in (packed, places))
    for _, stage in kernels.stages(*arrays):
        stage()
    n = len(frames)
    return kernels.frames[:n].cpu().numpy(), kernels.misfits[:n].tolist()


def check(found, frames, layout):
    """The pixels that count are those of the frames read on the CPU."""
    for pixels, frame in zip(found, frames, strict=True):
        expected, restored = frame.frame(), layout.restore(pixels)
        np.testing.assert_array_equal(restored.mask, expected.mask)
        np.testing.assert_array_equal(
            restored.data[restored.mask], expected.data[restored.mask]
        )
        padding = np.ones(pixels.shape, bool)
        padding[: SHAPE[0], : SHAPE[1]] = False
        assert not pixels[padding].any()


@pytest.mark.parametrize(
    ("dtype", "top"),
    [
        ("u1", None),
        ("u2", None),
        ("u2", 2**16),
        ("i2", None),
        ("i4", None),
        ("u4", 2**31),
        ("u4", None),
    ],
)
@pytest.mark.parametrize("block", [0, BLOCK])
def test_pixels_equal_those_of_the_cpu(block, dtype, top, triton_device):
    frames = encode(make_images(dtype), top, block=block)
    layout = raw_layout(frames)
    found, misfits = run(frames, layout, triton_device)
    assert misfits == [0, 0]
    check(found, frames, layout)


def test_images_that_compress_well_and_badly(triton_device):
    """Runs over many bytes, which repeat themselves, and blocks of literals alone."""
    images = np.zeros((3, *SHAPE), np.int32)
    images[1] = 77
    images[2] = np.random.default_rng(0).integers(-(2**31), 2**31, SHAPE)
    frames = encode(images)
    layout = raw_layout(frames)
    assert len(frames[0].data) < images[0].nbytes / 20
    found, misfits = run(frames[:2], layout, triton_device)
    check(found, frames[:2], layout)
    assert misfits == [0, 0]
    wide = replace(frames[0].encoding, low=-(2**30), high=2**30)
    frames = [replace(frame, encoding=wide) for frame in frames]
    layout = replace(layout, encoding=wide, mask=np.ones(SHAPE, bool))
    found, _ = run(frames[2:], layout, triton_device)
    inside = wide.static_mask & (np.abs(images[2].astype(float)) <= 2**30)
    pixels = found[0][: SHAPE[0], : SHAPE[1]]
    assert inside.sum() > 100
    np.testing.assert_array_equal(pixels[inside], images[2][inside])


@pytest.mark.parametrize(
    ("square", "misfit"),
    [
        ((slice(8, 10), slice(20, 22)), 1),
        ((slice(29, 31), slice(43, 45)), 1),
        ((slice(8, 9), slice(20, 30)), 0),
        ((slice(8, 18), slice(20, 21)), 0),
    ],
)
def test_overloads_that_may_be_signal_are_left_to_the_cpu(
    square, misfit, triton_device
):
    images = make_images("u2")
    images[1][square] = HIGH + 1
    frames = encode(images, mask=np.ones(SHAPE, bool))
    layout = raw_layout(frames)
    found, misfits = run(frames, layout, triton_device)
    assert misfits == [0, misfit]
    good = 1 if misfit else 2
    check(found[:good], frames[:good], layout)


def test_masked_overloads_are_no_signal(triton_device):
    images, mask = make_images("u2"), np.ones(SHAPE, bool)
    images[:, 8:12, 20:24] = 65535
    mask[8:12, 20:24] = False
    frames = encode(images, mask=mask)
    assert run(frames, raw_layout(frames), triton_device)[1] == [0, 0]


def test_pixel_that_the_layout_leaves_out(triton_device):
    images = make_images("u2")
    images[0, 20, 20] = 65535
    frames = encode(images, mask=np.ones(SHAPE, bool))
    layout = raw_layout(frames[:1])
    assert not layout.mask[20, 20]
    assert run(frames, layout, triton_device)[1] == [0, 1]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_blocks_are_told_and_write_nowhere_else(seed, triton_device):
    """Bytes of a block changed: the other images stay right."""
    frames = encode(make_images("u2", 3))
    layout = raw_layout(frames)
    rng = np.random.default_rng(seed)
    chunk = bytearray(frames[1].data)
    size = int.from_bytes(chunk[12:16], "big")
    chunk[16 : 16 + size] = rng.integers(0, 256, size, np.uint8).tobytes()
    broken = replace(frames[1], data=bytes(chunk))
    found, misfits = run([frames[0], broken, frames[2]], layout, triton_device)
    assert misfits == [0, 1, 0]
    check(found[::2], frames[::2], layout)


def test_bytes_from_before_their_block(triton_device):
    """A block that is well-formed, but for how far back its bytes are said to be."""
    frames = encode(make_images("u1", 2))
    layout = raw_layout(frames)
    size = frames[1].encoding.shuffled_bytes - BLOCK  # of the second block, the last

    def chunk_with(back):
        first = int.from_bytes(frames[1].data[12:16], "big")
        # A literal; 4 + 15 + more bytes from before; five literals.
        more = size - 1 - 19 - 5
        lengths = bytes([255] * (more // 255) + [more % 255])
        block = b"\x1fa" + back.to_bytes(2, "little") + lengths + b"\x50abcde"
        head = frames[1].data[: 16 + first] + len(block).to_bytes(4, "big")
        return head + block + frames[1].data[-(31 * 45 % 8) :]

    for back, misfit in ((1, 0), (2, 1), (300, 1)):
        changed = replace(frames[1], data=chunk_with(back))
        found, misfits = run([frames[0], changed], layout, triton_device)
        assert misfits == [0, misfit]
        check(found[:1], frames[:1], layout)
