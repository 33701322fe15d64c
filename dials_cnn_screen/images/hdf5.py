"""HDF5 files read straight into one buffer, beside dxtbx and as it does.

dxtbx's format classes open a file anew for each image, or find their way through its
groups, and copy the pixels. Here the file stays open. Pixels go from it to the buffer;
what Dectris detectors compress is decompressed by their library, a chunk at a time, or
left to a GPU as it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import h5py
import numpy as np
from dxtbx import flumpy
from dxtbx.format.Format import Format
from dxtbx.imageset import ImageSet
from numpy.typing import NDArray

from dials_cnn_screen.images.compression import decompress
from dials_cnn_screen.images.frame import as_dxtbx_has
from dials_cnn_screen.images.hdf5_chunks import Chunk, ChunkReader, find_links

# The filters of Dectris detectors, for h5py here and in dxtbx.
with contextlib.suppress(ImportError):
    import hdf5plugin  # noqa: F401

logger = logging.getLogger("dials.cnn_screen.hdf5")


# HDF5 goes through the chunks of a file one by one to tell where one is, 0.05 us each;
# with more than so many it reads small ones itself as quickly. By hand.
_FEW_CHUNKS = 4096
# What reading raises; dxtbx has its own words for what is wrong.
_UNREADABLE = (OSError, KeyError, IndexError, ValueError)


class FastHDF5:
    """Reads images of HDF5 files where that gives the same pixels as dxtbx.

    The last file stays open. It is read in this way if its first image that is read
    has the same pixels in both.
    """

    def __init__(self) -> None:
        """No file is open yet."""
        self._file: tuple[str, dict[str, Any]] | None = None
        self._reader: HDF5Reader | None = None

    def read(self, imageset: ImageSet, index: int) -> NDArray | None:
        """One image, to be used before the next is read.

        Args:
            imageset: Opened with its format.
            index: The image's position in it.

        Returns:
            (slow, fast) numbers, ADU; None for one that is left to dxtbx.
        """
        reader = self._open(imageset, index)
        if reader is None:
            return None
        try:
            return reader.read(imageset.indices()[index])
        except _UNREADABLE:
            return None

    def read_raw(
        self, imageset: ImageSet, index: int
    ) -> tuple[Chunk, HDF5Reader] | None:
        """One image as HDF5Reader.read_raw gives it, and what read it.

        None for one that is left to dxtbx, or of floating-point numbers.
        """
        reader = self._open(imageset, index)
        if reader is None or reader.dtype.kind == "f":
            return None
        try:
            return reader.read_raw(imageset.indices()[index]), reader
        except _UNREADABLE:
            return None

    def _open(self, imageset: ImageSet, index: int) -> HDF5Reader | None:
        """The reader of the file of an image; None if that is left to dxtbx."""
        if not imageset.reader().is_single_file_reader():
            return None
        file = imageset.get_path(index), imageset.params()
        if file != self._file:
            if self._reader is not None:
                self._reader.close()
            self._file = file
            self._reader = _open_as_dxtbx(imageset, index)
        return self._reader

    def as_dxtbx(self, pixels: NDArray) -> Any:
        """A copy of the pixels that were read last as dxtbx has them, a flex array."""
        assert self._reader is not None  # it read them
        return flumpy.from_numpy(pixels.astype(self._reader.dxtbx_dtype))


class HDF5Reader:
    """Reads the images of a file; each is there until the next is read.

    Attributes:
        shape, dtype: (slow, fast), of the images.
        top: As __init__ has it.
        dxtbx_dtype: Of the pixels that dxtbx reads of the file.
    """

    dxtbx_dtype: np.dtype

    def __init__(self, datasets: list[h5py.Dataset], top: int | None = None) -> None:
        """Reads nothing yet.

        Args:
            datasets: (n, slow, fast) each, of numbers of one type, in the order of the
                images and in one file.
            top: One above the greatest value that the detector reads out, where the
                greatest two stand for pixels without one; they become -1 and -2.
        """
        self._images = [
            (dataset, i) for dataset in datasets for i in range(len(dataset))
        ]
        self.top = top
        first = datasets[0]
        # HDF5 turns the bytes round where need be; _find_bytes leaves that to it.
        self.shape, self.dtype = first.shape[1:], first.dtype.newbyteorder("=")
        self._links = find_links(datasets)
        self._chunks = ChunkReader(first.dtype, self.shape)
        self._buffer = np.empty(self.shape, self.dtype)
        self._marked = np.empty(self.shape, np.int32)
        self._file = open(first.file.filename, "rb")  # noqa: SIM115, for all images

    def close(self) -> None:
        """Close the file; an HDF5 file is closed when nothing refers to it."""
        self._file.close()

    def read(self, number: int) -> NDArray:
        """One image, (slow, fast), ADU, in a buffer that the next one is read into.

        Args:
            number: From 0.

        Raises:
            OSError, KeyError, IndexError, ValueError: The image cannot be read.
        """
        raw = self._read(number, self._read_chunk(number))
        return as_dxtbx_has(raw, self.top, self._marked)

    def read_raw(self, number: int) -> Chunk:
        """One image as the file has it: its pixels, or what bitshuffle made of them.

        Args:
            number: From 0.

        Raises:
            OSError, KeyError, IndexError, ValueError: The image cannot be read.
        """
        chunk = self._read_chunk(number)
        if chunk is not None and chunk.compression == "bslz4":
            return chunk
        return Chunk(self._read(number, chunk).tobytes(), "none")

    def _read_chunk(self, number: int) -> Chunk | None:
        """An image that is one compressed chunk; None for another."""
        place = self._links.get(number, self._images[number])
        return self._chunks.read(*place)

    def _read(self, number: int, chunk: Chunk | None) -> NDArray:
        """The pixels of an image.

        Args:
            number: From 0.
            chunk: Of the image; None: it stands as it is in its file, or HDF5 reads it.
        """
        if chunk is not None:
            return decompress(*chunk, self.shape, self.dtype.name)
        dataset, row = self._images[number]
        offset = _find_bytes(dataset, row)
        if offset is None:
            dataset.read_direct(self._buffer, np.s_[row])
        else:
            # Reading leaves other threads to run, which h5py's does in part only.
            read = os.preadv(self._file.fileno(), [self._buffer.data], offset)
            if read != self._buffer.nbytes:
                raise OSError(f"{self._file.name} ends within image {number}")
        return self._buffer


def _find_bytes(dataset: h5py.Dataset, row: int) -> int | None:
    """Where in its file an image stands as it is; None where HDF5 is to read it."""
    if dataset.is_virtual or not dataset.dtype.isnative:
        return None
    size = dataset.dtype.itemsize * dataset.shape[1] * dataset.shape[2]
    if dataset.chunks is None:
        first = dataset.id.get_offset()
        return None if first is None else first + row * size
    if dataset.chunks != (1, *dataset.shape[1:]):
        return None
    if dataset.id.get_create_plist().get_nfilters() or len(dataset) > _FEW_CHUNKS:
        return None
    chunk = dataset.id.get_chunk_info_by_coord((row, 0, 0))
    return chunk.byte_offset if chunk.size == size else None


def _open_as_dxtbx(imageset: ImageSet, index: int) -> HDF5Reader | None:
    """What reads the file of an image as dxtbx does; None if nothing else does."""
    reader = _open(imageset, index)
    if reader is None:
        return None
    try:
        panels = [flumpy.to_numpy(panel) for panel in imageset.get_raw_data(index)]
        pixels = reader.read(imageset.indices()[index])
        if len(panels) == 1 and np.array_equal(
            panels[0], pixels, equal_nan=pixels.dtype.kind == "f"
        ):
            reader.dxtbx_dtype = panels[0].dtype
            return reader
    except Exception:  # whatever dxtbx or a format raises; it will again
        logger.debug("no fast reading of %s", imageset.get_path(index), exc_info=True)
    finally:
        imageset.clear_cache()
    reader.close()
    return None


def _open(imageset: ImageSet, index: int) -> HDF5Reader | None:
    """A reader for the file of an image, if its format is known here."""
    format_class = imageset.get_format_class()
    path, params = imageset.get_path(index), imageset.params()
    # The class whose get_raw_data a subclass inherits tells how pixels are stored.
    (reads, *_) = [c for c in format_class.__mro__ if "get_raw_data" in vars(c)]
    open_datasets = OPENERS.get(reads.__name__)
    if open_datasets is None:
        return None
    try:
        datasets, top = open_datasets(path, format_class.get_instance(path, **params))
        if _are_images(datasets):
            return HDF5Reader(datasets, top)
    except (OSError, KeyError, AttributeError, IndexError, ValueError):
        pass  # dxtbx has its own words for what is wrong with a file
    return None


def _are_images(datasets: list[h5py.Dataset]) -> bool:
    """Whether these are several images of one shape, of numbers as dxtbx has them."""
    kinds = {(d.shape[1:], d.dtype, d.file.filename) for d in datasets}
    if len(kinds) != 1 or sum(map(len, datasets)) < 2:
        return False
    ((shape, dtype, _),) = kinds
    fits = dtype in (np.float32, float) or (dtype.kind in "iu" and dtype.itemsize <= 4)
    return len(shape) == 2 and fits


def _open_cxidb76(path: str, _instance: Format) -> tuple[list[h5py.Dataset], None]:
    """The datasets of the layout of CXIDB-76, one or more."""
    data = h5py.File(path, "r")["data"]
    return [data[name]["images"] for name in sorted(data)], None


def _open_nxmx(path: str, instance: Any) -> tuple[list[h5py.Dataset], int | None]:
    """The dataset of NXmx that dxtbx reads; it may be virtual or in another file."""
    file = h5py.File(path, "r", swmr=True)
    nxdata = instance._get_nxmx(file).entries[0].data[0]
    dataset = nxdata[nxdata.signal] if nxdata.signal else next(iter(nxdata.values()))
    depth = instance._bit_depth_readout
    if not depth or dataset.dtype.kind == "f":
        return [dataset], None
    return [dataset], 2**31 if depth == 32 else 2**depth


OPENERS = {"FormatHDF5CXIDB76": _open_cxidb76, "FormatNXmx": _open_nxmx}
