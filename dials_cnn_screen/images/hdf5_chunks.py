"""Images of HDF5 files that are one compressed chunk each, as of Dectris detectors.

HDF5 decompresses such a chunk by a plug-in, which takes longer than the detectors' own
library, and holds up other threads meanwhile.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import NamedTuple

import h5py

from dials_cnn_screen.images.compression import DTYPES

# HDF5's numbers of the filters, and what bitshuffle has for LZ4.
_LZ4_FILTER, _BITSHUFFLE_FILTER, _WITH_LZ4 = 32004, 32008, 2


class Chunk(NamedTuple):
    """An image that is one chunk.

    Attributes:
        dataset, row: Where it is.
        compression: lz4 or bslz4, as in compression.py.
    """

    dataset: h5py.Dataset
    row: int
    compression: str

    def read(self) -> bytes | None:
        """The chunk as it is in the file; None for one that is not compressed.

        Raises:
            OSError: It cannot be read.
        """
        left_out, data = self.dataset.id.read_direct_chunk((self.row, 0, 0))
        return None if left_out else data


def find_chunks(dataset: h5py.Dataset) -> list[Chunk | None]:
    """The chunk of each image; None for one that has none, and where HDF5 is to read.

    Args:
        dataset: (n, slow, fast), which may be made of others, in other files.
    """
    if importlib.util.find_spec("dectris") is None:
        return [None] * len(dataset)
    if not dataset.is_virtual:
        compression = _compression_of(dataset)
        return [
            Chunk(dataset, row, compression) if compression else None
            for row in range(len(dataset))
        ]
    chunks: list[Chunk | None] = [None] * len(dataset)
    for there, filename, name, here in dataset.virtual_sources():
        path = Path(dataset.file.filename)
        path = path if filename == "." else path.parent / filename
        if not path.is_file():
            continue
        source = h5py.File(path, "r", swmr=True)[name]
        compression = _compression_of(source)
        if compression is None or source.dtype != dataset.dtype:
            continue
        numbers, rows = _selected_images(there, dataset), _selected_images(here, source)
        for number, row in zip(numbers, rows, strict=False):
            chunks[number] = Chunk(source, row, compression)
    return chunks


def _selected_images(space: h5py.h5s.SpaceID, dataset: h5py.Dataset) -> range:
    """Which images of a dataset are selected; none where not whole ones in a row."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return range(len(dataset))
    (first, *starts), (last, *ends) = space.get_select_bounds()
    images, shape = range(first, last + 1), dataset.shape[1:]
    whole = not any(starts) and tuple(end + 1 for end in ends) == shape
    n_pixels = len(images) * math.prod(shape)
    return images if whole and space.get_select_npoints() == n_pixels else range(0)


def _compression_of(dataset: h5py.Dataset) -> str | None:
    """How each image is compressed; None where it is not one chunk, or otherwise."""
    dtype, plist = dataset.dtype, dataset.id.get_create_plist()
    one_chunk = not dataset.is_virtual and dataset.chunks == (1, *dataset.shape[1:])
    if not one_chunk or not dtype.isnative or dtype.name not in DTYPES:
        return None
    if plist.get_nfilters() != 1:
        return None
    # Bitshuffle has two numbers of its version, bytes of a pixel, pixels of a block,
    # and how it compresses.
    code, _, values, _ = plist.get_filter(0)
    if code == _BITSHUFFLE_FILTER and values[4:5] == (_WITH_LZ4,):
        return "bslz4"
    return "lz4" if code == _LZ4_FILTER else None
