"""Hits as one new HDF5 file: NXmx for dxtbx, with the peak lists of CXI for CrystFEL.

Pixels are those that dxtbx gives of the original files, bit for bit, one image a chunk.
Each image is compressed by the process that read it.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.imageset import ImageSet
from dxtbx.model import Beam, Detector, Panel
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.images.masks import StaticMask, trusted_values
from dials_cnn_screen.images.opening import Opener
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.outputs import crystfel
from dials_cnn_screen.outputs.crystfel import write_geometry
from dials_cnn_screen.outputs.geometry import find_distance, frame_panels
from dials_cnn_screen.outputs.nxmx import write_number, write_nxmx
from dials_cnn_screen.util.files import replacing

try:
    import hdf5plugin

    FILTER: Mapping[str, Any] = hdf5plugin.Bitshuffle()
except ImportError:
    # The quickest level of gzip: higher ones gain some per cent on detector images.
    FILTER = {"shuffle": True, "compression": "gzip", "compression_opts": 1}

# Where the names and numbers of the images in their original files are.
ORIGINAL = "/entry/original"


@dataclass(frozen=True, eq=False)
class PackedImage:
    """The pixels of one image as they go into the file.

    Attributes:
        shape: (slow, fast) of the panels one below the other.
        dtype: As numpy names it.
        chunk: The pixels, compressed by FILTER.
        checksum: CRC-32 of the pixels.
    """

    shape: tuple[int, ...]
    dtype: str
    chunk: bytes
    checksum: int


def pack_image(imageset: ImageSet, index: int) -> PackedImage:
    """Read and compress the raw pixels of one image.

    Args:
        imageset: Opened with its format.
        index: The image's position in it.

    Raises:
        Exception: Whatever dxtbx raises when it cannot read the image.
    """
    panels = [flumpy.to_numpy(panel) for panel in imageset.get_raw_data(index)]
    pixels = np.concatenate(panels)
    # A file in memory: HDF5 has all filters, and they are not there otherwise.
    with h5py.File("chunk", "w", driver="core", backing_store=False) as memory:
        dataset = memory.create_dataset(
            "image", data=pixels, chunks=pixels.shape, **FILTER
        )
        _, chunk = dataset.id.read_direct_chunk((0, 0))
    return PackedImage(pixels.shape, pixels.dtype.str, chunk, zlib.crc32(pixels.data))


class HitImage(NamedTuple):
    """One image of the file.

    Attributes:
        still: Where it comes from; with its models.
        packed: Its pixels.
        spots: Of extract_spots; None where the model looks for none.
    """

    still: Still
    packed: PackedImage
    spots: flex.reflection_table | None

    @property
    def models(self) -> tuple[Detector, Beam]:
        """Detector and beam of the image."""
        imageset, position = self.still.imageset, self.still.position
        return imageset.get_detector(position), imageset.get_beam(position)


class HitsFile(NamedTuple):
    """What was written.

    Attributes:
        n_images: Number of images.
        n_moved: Of those with another detector than the first one. dxtbx reads one
            detector for all images of a file; CrystFEL the distance of each.
    """

    n_images: int
    n_moved: int


def write_hits(
    path: str | Path, geometry: str | Path, images: Iterable[HitImage]
) -> HitsFile:
    """Write images to a new HDF5 file, check it, and write its geometry for CrystFEL.

    Detector, mask and trusted range are those of the first image.

    Args:
        path: Such as hits.h5.
        geometry: Such as hits.geom.
        images: Of one shape and type; taken one by one.

    Raises:
        ValueError: There is no image, or one is of another shape or type.
        OSError: An image that is read back is not what was written.
    """
    with replacing(path) as unfinished:
        with h5py.File(unfinished, "w") as handle:
            first, added = _add_images(handle, iter(images))
            detector, beam = first.models
            trusted = _find_trusted(detector[0], first.packed.dtype)
            _write_frame(handle, first.still, trusted)
            _write_per_image(handle, added)
        _check(unfinished, added)
        distances = {image.distance for image in added}
        write_geometry(
            geometry,
            detector,
            beam,
            trusted,
            distances.pop() if len(distances) == 1 else None,
        )
    return HitsFile(len(added), sum(image.moved for image in added))


class _Added(NamedTuple):
    """What is kept of an image that was added."""

    name: ImageName
    checksum: int
    wavelength: float
    distance: float
    moved: bool
    peaks: NDArray[np.float32]  # (n, 3): fast, slow in the image; intensity


def _add_images(
    handle: h5py.File, images: Iterator[HitImage]
) -> tuple[HitImage, list[_Added]]:
    """Write the pixels of all images; the first one, and what is kept of each."""
    first = next(images, None)
    if first is None:
        raise ValueError("no image that is kept can be read: there is nothing to write")
    shape, dtype = first.packed.shape, first.packed.dtype
    data = handle.create_dataset(
        crystfel.DATA,
        shape=(0, *shape),
        maxshape=(None, *shape),
        chunks=(1, *shape),
        dtype=dtype,
        **FILTER,
    )
    added = []
    for n, image in enumerate(itertools.chain([first], images)):
        packed, name = image.packed, image.still.name
        if (packed.shape, packed.dtype) != (shape, dtype):
            raise ValueError(
                "all images of an HDF5 file have one shape and type: "
                f"{first.still.name} has {_describe(first.packed)}, {name} has "
                f"{_describe(packed)}; screen them apart, or leave output.hdf5 out"
            )
        data.resize(n + 1, axis=0)
        data.id.write_direct_chunk((n, 0, 0), packed.chunk)
        detector, beam = image.models
        added.append(
            _Added(
                name,
                packed.checksum,
                beam.get_wavelength(),
                find_distance(detector, beam),
                detector != first.models[0],
                _list_peaks(image.spots, detector, beam),
            )
        )
    return first, added


def _list_peaks(
    spots: flex.reflection_table | None, detector: Detector, beam: Beam
) -> NDArray[np.float32]:
    """The spots as CXI has them: (n, 3), fast and slow in the image, and intensity.

    A pixel's centre is a whole number there; in a reflection table it is a half.
    """
    if spots is None or not len(spots):
        return np.empty((0, 3), np.float32)
    rows = np.array([frame.first_row for frame in frame_panels(detector, beam)])
    x, y, _ = (flumpy.to_numpy(p) for p in spots["xyzobs.px.value"].parts())
    y = y + rows[flumpy.to_numpy(spots["panel"])]
    intensity = flumpy.to_numpy(spots["intensity.sum.value"])
    return np.stack([x - 0.5, y - 0.5, intensity], axis=1).astype(np.float32)


def _find_trusted(panel: Panel, dtype: str) -> tuple[float, float]:
    """The least and the greatest trusted value of pixels of a type."""
    low, high = trusted_values(panel, dtype)
    return low.item(), high.item()


def _write_frame(handle: h5py.File, still: Still, trusted: tuple[float, float]) -> None:
    """Detector, beam and mask, those of one image."""
    imageset, index = Opener().open(still.imageset, still.position)
    detector, beam = imageset.get_detector(index), imageset.get_beam(index)
    write_nxmx(handle, detector, beam, StaticMask().read(imageset), trusted)


def _write_per_image(handle: h5py.File, added: list[_Added]) -> None:
    """Where the images come from, what each has of its own, and their peaks."""
    handle.attrs["creator"] = f"dials.cnn_screen {__version__}"
    wavelengths = np.array([image.wavelength for image in added])
    write_number(handle, crystfel.WAVELENGTH, wavelengths, "angstrom")
    distances = np.array([image.distance for image in added])
    write_number(handle, crystfel.DISTANCE, distances, "mm")
    original = handle.create_group(ORIGINAL)
    original.attrs["NX_class"] = "NXcollection"
    original["file"] = [image.name.path for image in added]
    original["number"] = [image.name.number for image in added]
    most = max(1, *(len(image.peaks) for image in added))
    peaks = np.zeros((len(added), most, 3), np.float32)
    for row, image in zip(peaks, added, strict=True):
        row[: len(image.peaks)] = image.peaks
    result = handle.create_group(crystfel.PEAKS)
    result["nPeaks"] = np.array([len(image.peaks) for image in added], np.int32)
    names = ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity")
    for i, name in enumerate(names):
        result[name] = peaks[..., i]


def _check(path: str, added: list[_Added]) -> None:
    """Read all images back; OSError where one is not what was written."""
    with h5py.File(path, "r") as handle:
        data = handle[crystfel.DATA]
        for i, image in enumerate(added):
            if zlib.crc32(np.ascontiguousarray(data[i]).data) != image.checksum:
                raise OSError(
                    f"'{path}' was not written as it should be: image {i + 1}, "
                    f"{image.name}, reads back differently; check the disk"
                )


def _describe(packed: PackedImage) -> str:
    slow, fast = packed.shape
    return f"{slow} x {fast} pixels of {np.dtype(packed.dtype).name}"
