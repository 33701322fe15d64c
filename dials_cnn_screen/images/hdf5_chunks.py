"""Images of HDF5 files that are one compressed chunk each, as of Dectris detectors.

HDF5 decompresses such a chunk by a plug-in, which takes longer than the detectors' own
library, and holds up other threads meanwhile.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py

from dials_cnn_screen.images.compression import DTYPES

# HDF5's numbers of the filters, and what bitshuffle has for LZ4.
_LZ4_FILTER, _BITSHUFFLE_FILTER, _WITH_LZ4 = 32004, 32008, 2


class Chunk(NamedTuple):
    """An image as its file has it.

    Attributes:
        data: Compressed.
        compression: none, lz4 or bslz4, as in compression.py.
    """

    data: bytes
    compression: str


class _Place(NamedTuple):
    """Where the chunk of an image is: a dataset, or its file and name, and the row."""

    source: h5py.Dataset | tuple[Path, str]
    row: int


class ChunkReader:
    """Reads the chunks of images; of files that are linked the last one is open."""

    def __init__(self, datasets: Sequence[h5py.Dataset]) -> None:
        """No linked file is open yet.

        Args:
            datasets: (n, slow, fast) each, in the order of the images; each may be made
                of others, in other files.
        """
        self._dtype, self._shape = datasets[0].dtype, datasets[0].shape[1:]
        self._places = [place for dataset in datasets for place in _places_of(dataset)]
        self._source: h5py.Dataset | tuple[Path, str] | None = None

    def read(self, number: int) -> Chunk | None:
        """The chunk of an image; None where it is not one, or HDF5 is to read it.

        Args:
            number: From 0.

        Raises:
            OSError, KeyError: It cannot be read.
            IndexError: There is no such image.
        """
        if (place := self._places[number]) is None:
            return None
        if place.source != self._source:
            self._open(place.source)
        if self._compression is None:
            return None
        left_out, data = self._dataset.id.read_direct_chunk((place.row, 0, 0))
        return None if left_out else Chunk(data, self._compression)

    def _open(self, source: h5py.Dataset | tuple[Path, str]) -> None:
        """Make a dataset the one that is read."""
        self._source = None
        if isinstance(source, h5py.Dataset):
            self._dataset = source
        else:
            path, name = source
            self._dataset = h5py.File(path, "r", swmr=True)[name]
        alike = (self._dataset.dtype, self._dataset.shape[1:]) == (
            self._dtype,
            self._shape,
        )
        self._compression = _compression_of(self._dataset) if alike else None
        self._source = source


def _places_of(dataset: h5py.Dataset) -> Sequence[_Place | None]:
    """Where the image of each row of a dataset is; None where HDF5 is to read it."""
    if importlib.util.find_spec("dectris") is None:
        return [None] * len(dataset)
    if not dataset.is_virtual:
        return [_Place(dataset, row) for row in range(len(dataset))]
    places: list[_Place | None] = [None] * len(dataset)
    for there, filename, name, here in dataset.virtual_sources():
        path = Path(dataset.file.filename)
        path = path if filename == "." else path.parent / filename
        numbers = _selected_images(there, dataset.shape[1:])
        rows: Iterable[int] = itertools.count()
        if here.get_select_type() != h5py.h5s.SEL_ALL:
            rows = _selected_images(here, dataset.shape[1:])
        # HDF5 fills what is missing.
        if path.is_file():
            for number, row in zip(numbers, rows, strict=False):
                places[number] = _Place((path, name), row)
    return places


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
