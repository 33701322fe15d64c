"""Images of HDF5 files that are one compressed chunk each, as of Dectris detectors.

HDF5 decompresses such a chunk by a plug-in, which takes longer than the detectors' own
library, and holds up other threads meanwhile.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from dials_cnn_screen.images.compression import DTYPES

# HDF5's numbers of the filters, and what bitshuffle has for LZ4.
_LZ4_FILTER, _BITSHUFFLE_FILTER, _WITH_LZ4 = 32004, 32008, 2


# The file and the name of a dataset that a virtual one takes images from.
Link = tuple[Path, str]


class Chunk(NamedTuple):
    """An image as its file has it.

    Attributes:
        data: Its bytes.
        compression: none, lz4 or bslz4, as in compression.py.
    """

    data: bytes
    compression: str


class ChunkReader:
    """Reads the chunks of images of one kind; the last dataset is open."""

    def __init__(self, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        """No dataset is open yet; dtype, shape (slow, fast): of the images."""
        self._kind = dtype, shape
        self._source: h5py.Dataset | Link | None = None

    def read(self, source: h5py.Dataset | Link, row: int) -> Chunk | None:
        """The chunk of an image; None where it is not one, or HDF5 is to read it.

        Args:
            source: (n, slow, fast).
            row: Of the image.

        Raises:
            OSError, KeyError: It cannot be read.
        """
        if source is not self._source:
            self._open(source)
        if self._compression is None:
            return None
        left_out, data = self._dataset.id.read_direct_chunk((row, 0, 0))
        return None if left_out else Chunk(data, self._compression)

    def _open(self, source: h5py.Dataset | Link) -> None:
        """Make a dataset the one that is read."""
        self._source = None
        if isinstance(source, tuple):
            path, name = source
            self._dataset = h5py.File(path, "r", swmr=True)[name]
        else:
            self._dataset = source
        kind = self._dataset.dtype, self._dataset.shape[1:]
        self._compression = None
        if kind == self._kind and importlib.util.find_spec("dectris") is not None:
            self._compression = _compression_of(self._dataset)
        self._source = source


def find_links(datasets: Sequence[h5py.Dataset]) -> dict[int, tuple[Link, int]]:
    """Dataset and row of those images of virtual datasets that are whole in another.

    By the number of the image, from 0, over all datasets (n, slow, fast).
    """
    links: dict[int, tuple[Link, int]] = {}
    first = 0
    for dataset in datasets:
        if dataset.is_virtual:
            links.update((first + row, place) for row, place in _links_of(dataset))
        first += len(dataset)
    return links


def _links_of(dataset: h5py.Dataset) -> Iterator[tuple[int, tuple[Link, int]]]:
    """The row of each such image of a virtual dataset, and dataset and row of that."""
    shape = dataset.shape[1:]
    for there, filename, name, here in dataset.virtual_sources():
        path = Path(dataset.file.filename)
        path = path if filename == "." else path.parent / filename
        rows: Iterable[int] = itertools.count()
        if here.get_select_type() != h5py.h5s.SEL_ALL:
            rows = _selected_images(here, shape)
        # HDF5 fills what is missing.
        if path.is_file():
            source = path, name
            for number, row in zip(_selected_images(there, shape), rows, strict=False):
                yield number, (source, row)


def _selected_images(space: h5py.h5s.SpaceID, shape: tuple[int, ...]) -> range:
    """Which images of a shape are selected; none where not whole ones in a row."""
    (first, *starts), (last, *ends) = space.get_select_bounds()
    images = range(first, last + 1)
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
