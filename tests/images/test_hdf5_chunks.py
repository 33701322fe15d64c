from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip("lz4")
pytest.importorskip("dectris")

from dials_cnn_screen.images.compression import compress, decompress
from dials_cnn_screen.images.hdf5_chunks import ChunkReader, find_links

SHAPE = (40, 50)
LZ4, BITSHUFFLE = 32004, 32008  # HDF5's numbers of the filters


def make_images(n, dtype):
    return np.random.default_rng(5).poisson(20, (n, *SHAPE)).astype(dtype)


def create(parent, name, images, *filters):
    """A dataset of compressed images; h5py needs no plug-in to write it like this.

    One that is there adds the first three numbers by itself.
    """
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *SHAPE))
    filters = filters or [(BITSHUFFLE, (0, 4, images.itemsize, 0, 2))]
    for code, values in filters:
        if code == BITSHUFFLE and h5py.h5z.filter_avail(code):
            values = values[3:]
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, values)
    dtype = h5py.h5t.py_create(images.dtype)
    space = h5py.h5s.create_simple(images.shape)
    h5py.h5d.create(parent.id, name.encode(), dtype, space, plist)
    compression = "lz4" if filters[0][0] == LZ4 else "bslz4"
    for row, image in enumerate(images):
        chunk = compress(image, compression, 1024)
        parent[name].id.write_direct_chunk((row, 0, 0), chunk)
    return parent[name]


@pytest.fixture
def handle(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        yield handle


def read_chunks(dataset):
    """The images by their chunks; None for one without."""
    reader, name = ChunkReader(dataset.dtype, SHAPE), dataset.dtype.name
    links = find_links([dataset])
    places = [links.get(row, (dataset, row)) for row in range(len(dataset))]
    chunks = [reader.read(*place) for place in places]
    return [chunk and decompress(*chunk, SHAPE, name) for chunk in chunks]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
@pytest.mark.parametrize("filters", [[], [(LZ4, (0,))]], ids=["bslz4", "lz4"])
def test_chunks_as_they_are(filters, dtype, handle):
    images = make_images(3, dtype)
    dataset = create(handle, "data", images, *filters)
    np.testing.assert_array_equal(read_chunks(dataset), images)
    # A chunk to which the filter was not applied.
    dataset.id.write_direct_chunk((1, 0, 0), images[1].tobytes(), filter_mask=1)
    found = read_chunks(dataset)
    assert [one is None for one in found] == [False, True, False]


def test_chunks_of_other_datasets(handle):
    images = make_images(3, np.uint16)
    bitshuffle, zstd = ((BITSHUFFLE, (0, 4, 2, 0, kind)) for kind in (2, 3))
    deflate, unknown = (1, (4,)), (32999, (2,))
    plain = [
        handle.create_dataset("plain", data=images),
        handle.create_dataset("chunks", data=images, chunks=(1, *SHAPE)),
        handle.create_dataset("many", data=images, chunks=(2, *SHAPE)),
    ]
    for i, filters in enumerate([[zstd], [deflate], [bitshuffle, deflate], [unknown]]):
        plain.append(create(handle, f"other {i}", images, *filters))
    for dataset in plain:
        assert read_chunks(dataset) == [None] * 3


def test_chunks_of_linked_files(handle, tmp_path):
    """Whole images of other files, and of this one; what is missing is left out."""
    images = make_images(7, np.uint16)
    with h5py.File(tmp_path / "data_1.h5", "w") as other:
        create(other, "data", images[:3])
        create(other, "more", images[2:5])
    create(handle, "here", images[5:6])
    layout = h5py.VirtualLayout(images.shape, np.uint16)
    layout[:3] = h5py.VirtualSource("data_1.h5", "data", (3, *SHAPE))
    layout[3:5] = h5py.VirtualSource("data_1.h5", "more", (3, *SHAPE))[1:]
    layout[5] = h5py.VirtualSource(".", "here", (1, *SHAPE))[0]
    layout[6] = h5py.VirtualSource("missing.h5", "data", (1, *SHAPE))[0]
    found = read_chunks(handle.create_virtual_dataset("all", layout))
    np.testing.assert_array_equal(found[:6], images[:6])
    assert found[6] is None


def test_images_linked_in_parts_have_no_chunk(handle):
    create(handle, "here", make_images(2, np.uint16))
    layout = h5py.VirtualLayout((2, *SHAPE), np.uint16)
    layout[:, :20] = h5py.VirtualSource(".", "here", (2, *SHAPE))[:, 20:]
    assert read_chunks(handle.create_virtual_dataset("all", layout)) == [None, None]


def test_nothing_that_decompresses(handle, monkeypatch):
    dataset = create(handle, "data", make_images(2, np.uint16))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert read_chunks(dataset) == [None, None]
