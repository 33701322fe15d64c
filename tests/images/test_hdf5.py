from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images import hdf5
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.hdf5 import FastHDF5
from dials_cnn_screen.images.raw_frame import RawFrame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import list_stills

SHAPE = (40, 50)


def make_images(n, dtype=np.int32):
    return np.random.default_rng(5).poisson(20, (n, *SHAPE)).astype(dtype)


def open_imagesets(path):
    experiments = ExperimentListFactory.from_filenames([str(path)])
    return [experiment.imageset for experiment in experiments]


def count_as_fast(path) -> int:
    """How many images are read in the fast way; with the pixels that dxtbx reads."""
    reader, n = FastHDF5(), 0
    for imageset in open_imagesets(path):
        pixels = reader.read(imageset, 0)
        if pixels is not None:
            n += 1
            (expected,) = imageset.get_raw_data(0)
            np.testing.assert_array_equal(pixels, flumpy.to_numpy(expected))
    return n


STORAGE = [
    {},
    {"chunks": (1, *SHAPE)},
    {"chunks": (2, 7, 50)},
    {"chunks": (1, *SHAPE), "compression": "gzip"},
    {"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True},
    {"chunks": (1, *SHAPE), "compression": "lzf"},
    {"chunks": (1, *SHAPE), "fletcher32": True},
]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", ">i4"])
@pytest.mark.parametrize("storage", STORAGE, ids=str)
def test_storage_of_cxidb76(storage, dtype, write_cxidb76, installed_formats, tmp_path):
    path = write_cxidb76(
        tmp_path / "a.h5", make_images(5, dtype), kind="Rayonix", n_chunks=2
    )
    with h5py.File(path, "a") as handle:
        for chunk in handle["data"].values():
            images = chunk["images"][()]
            del chunk["images"]
            chunk.create_dataset("images", data=images, **storage)
    assert count_as_fast(path) == 5


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("storage", STORAGE, ids=str)
def test_storage_of_nxmx(storage, dtype, write_nxmx, tmp_path):
    path = write_nxmx(tmp_path / "a.h5", make_images(3, dtype), **storage)
    assert count_as_fast(path) == 3


@pytest.mark.parametrize("bit_depth", [8, 16, 32])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4"])
def test_pixels_without_a_value(dtype, bit_depth, write_nxmx, tmp_path):
    images = make_images(3, dtype)
    for top in (2**8, 2**16, 2**31, 2**32):
        if top - 1 <= np.iinfo(dtype).max:
            images[:, top.bit_length() % 32, :3] = top - 1, top - 2, top - 3
    path = write_nxmx(tmp_path / "a.h5", images, bit_depth=bit_depth)
    assert count_as_fast(path) == 3


def test_image_files_linked_from_a_master_file(write_nxmx, tmp_path):
    images = make_images(6, np.uint16)
    layout = h5py.VirtualLayout(images.shape, np.uint16)
    for i in range(2):
        with h5py.File(tmp_path / f"data_{i}.h5", "w") as handle:
            handle["entry/data/data"] = images[3 * i : 3 * i + 3]
        source = h5py.VirtualSource(
            tmp_path / f"data_{i}.h5", "entry/data/data", (3, *SHAPE)
        )
        layout[3 * i : 3 * i + 3] = source
    link = h5py.ExternalLink("data_0.h5", "entry/data/data")
    linked = write_nxmx(tmp_path / "linked.h5", images, data=link)
    assert count_as_fast(linked) == 3
    virtual = write_nxmx(tmp_path / "virtual.h5", images, data=layout)
    assert count_as_fast(virtual) == 6


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4"])
@pytest.mark.parametrize("name", ["Bitshuffle", "LZ4"])
@pytest.mark.parametrize("bit_depth", [None, 8])
def test_what_dectris_detectors_compress(name, bit_depth, dtype, write_nxmx, tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    storage = dict(getattr(hdf5plugin, name)(), chunks=(1, *SHAPE))
    images = make_images(3, dtype)
    images[:, 3, :3] = 255, 254, 253
    path = write_nxmx(tmp_path / "a.h5", images, bit_depth=bit_depth, **storage)
    assert count_as_fast(path) == 3


def test_damaged_chunk_is_left_to_dxtbx(write_nxmx, tmp_path, monkeypatch):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    pytest.importorskip("dectris")
    storage = dict(hdf5plugin.Bitshuffle(), chunks=(1, *SHAPE))
    path = write_nxmx(tmp_path / "a.h5", make_images(3), **storage)
    with h5py.File(path, "a") as handle:
        handle["entry/data/data"].id.write_direct_chunk((1, 0, 0), b"damaged")
    reader, imagesets = FastHDF5(), open_imagesets(path)
    read = [reader.read(imageset, 0) is not None for imageset in imagesets]
    assert read == [True, False, True]


def check_raw_frames(path, n, block):
    """The frames of raw images are those that are read on a CPU."""
    source = Source()
    stills = list_stills(ExperimentListFactory.from_filenames([str(path)]))
    assert len(stills) == n
    for still in stills:
        found, expected = source.read_for_gpu(still), source.read(still)
        assert isinstance(found, RawFrame)
        assert found.encoding.block_bytes == block
        frame = found.frame()
        np.testing.assert_array_equal(frame.data, expected.data)
        np.testing.assert_array_equal(frame.mask, expected.mask)
        assert (frame.beam_centre, frame.used_range) == (
            expected.beam_centre,
            expected.used_range,
        )


@pytest.mark.parametrize("bit_depth", [None, 16])
@pytest.mark.parametrize(("name", "block"), [("Bitshuffle", 8192), ("LZ4", 0)])
def test_raw_frames_of_dectris_detectors(name, block, bit_depth, write_nxmx, tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    pytest.importorskip("dectris")
    images = make_images(3, np.uint16)
    images[1, 3:5, 3:5], images[:, 8, :2] = 6000, 65535
    storage = dict(getattr(hdf5plugin, name)(), chunks=(1, *SHAPE))
    path = write_nxmx(tmp_path / "a.h5", images, bit_depth=bit_depth, **storage)
    check_raw_frames(path, 3, block)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", ">i4"])
@pytest.mark.parametrize("storage", [{}, {"chunks": (1, *SHAPE), "compression": 1}])
def test_raw_frames_of_other_files(dtype, storage, write_nxmx, tmp_path):
    images = make_images(3, np.int32)
    images[1, 3:5, 3:5] = 100
    path = write_nxmx(tmp_path / "a.h5", images.astype(dtype), bit_depth=8, **storage)
    check_raw_frames(path, 3, 0)


def test_frames_of_floating_point_numbers_are_not_raw(write_nxmx, tmp_path):
    path = write_nxmx(tmp_path / "a.h5", make_images(3, np.float32))
    source = Source()
    for still in list_stills(ExperimentListFactory.from_filenames([str(path)])):
        found = source.read_for_gpu(still)
        assert isinstance(found, Frame)
        np.testing.assert_array_equal(found.data, source.read(still).data)


def test_files_by_turns(write_cxidb76, installed_formats, tmp_path):
    imagesets = []
    for name, start in (("a.h5", 0), ("b.h5", 100)):
        write_cxidb76(tmp_path / name, make_images(2) + start, kind="Rayonix")
        imagesets += [open_imagesets(tmp_path / name)]
    reader = FastHDF5()
    for i, start in ((0, 0), (1, 100), (0, 0)):
        np.testing.assert_array_equal(
            reader.read(imagesets[i][1], 0), make_images(2)[1] + start
        )


def test_file_of_one_image_is_left_to_dxtbx(write_cxidb76, installed_formats, tmp_path):
    assert (
        count_as_fast(write_cxidb76(tmp_path / "a.h5", make_images(1), kind="Rayonix"))
        == 0
    )


def test_file_that_is_no_hdf5_is_left_to_dxtbx(real_images):
    assert count_as_fast(real_images / "rayonix_mx340_lcls_hit.cbf") == 0


def test_other_pixels_than_those_of_dxtbx(
    write_cxidb76, installed_formats, tmp_path, monkeypatch
):
    path = write_cxidb76(tmp_path / "a.h5", make_images(3), kind="Rayonix")
    monkeypatch.setattr(hdf5, "_find_bytes", lambda dataset, row: 8)
    assert count_as_fast(path) == 0


def test_image_that_cannot_be_read_is_left_to_dxtbx(
    write_cxidb76, installed_formats, tmp_path, monkeypatch
):
    path = write_cxidb76(tmp_path / "a.h5", make_images(3), kind="Rayonix")
    find_bytes = hdf5._find_bytes
    monkeypatch.setattr(
        hdf5, "_find_bytes", lambda data, row: find_bytes(data, row) + 10**6 * row
    )
    reader = FastHDF5()
    read = [reader.read(imageset, 0) is not None for imageset in open_imagesets(path)]
    assert read == [True, False, False]
