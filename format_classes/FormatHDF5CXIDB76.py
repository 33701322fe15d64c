"""The HDF5 layout ``idh5_v1.0`` of CXIDB entry 76 (Ke et al., 2018).

    /metadata    idh5_version, BEAM_CENTER_X, BEAM_CENTER_Y (mm), PIXEL_SIZE (mm),
                 SIZE1, SIZE2 (pixels, fast and slow), MIN_TRUSTED_VALUE,
                 SATURATED_VALUE, ACTIVE_AREAS (slow1, fast1, slow2, fast2, ...)
    /data/CHUNK  images (n, slow, fast), distance (n) mm, wavelength (n) A;
                 one or more chunks, taken in the order of their names

The file is opened for each read and closed again: a process forked later shares no
HDF5 handle with its parent, and a reader can be pickled as it is.

Ke, T.-W. et al. (2018), J. Synchrotron Rad. 25, 655; https://cxidb.org/id-76.html
"""

from __future__ import annotations

import functools
from typing import Any

import h5py
import numpy as np
from dxtbx import flumpy
from dxtbx.format.Format import abstract
from dxtbx.format.FormatHDF5 import FormatHDF5
from dxtbx.format.FormatStill import FormatStill
from dxtbx.model import Beam, Detector
from numpy.typing import NDArray
from scitbx.array_family import flex

VERSION = b"idh5_v1.0"


def count_active_areas(image_file: str) -> int | None:
    """Number of ACTIVE_AREAS rectangles in a file.

    Returns:
        None for a file that is not of this layout, or no HDF5 file; nothing is raised.
    """
    try:
        with h5py.File(image_file, "r") as handle:
            metadata = handle["metadata"]
            if _first(metadata["idh5_version"]) not in (VERSION, VERSION.decode()):
                return None
            if "ACTIVE_AREAS" not in metadata:
                return 0
            return (metadata["ACTIVE_AREAS"].size or 0) // 4
    except Exception:
        # dxtbx calls this for every HDF5 file that it opens, and catches nothing.
        return None


def _first(dataset: h5py.Dataset) -> Any:
    """A number or text that is stored as a scalar or as an array of one element."""
    return np.ravel(dataset[()])[0]


@abstract
class FormatHDF5CXIDB76(FormatHDF5, FormatStill):
    """Stills of one flat panel normal to the beam, fast +x, slow -y.

    Distance and wavelength are those of each image. Opening a file reads metadata only;
    an image is read when it is requested.

    Raises:
        ValueError: The file is of this layout but damaged.
    """

    _sensor = "SENSOR_UNKNOWN"
    _border = 0  # pixels masked along the edges of each active area
    _least_trusted = -np.inf  # lower limit to MIN_TRUSTED_VALUE, ADU

    @staticmethod
    def understand(image_file: str) -> bool:
        """Whether the file is of this layout."""
        return count_active_areas(image_file) is not None

    def _start(self) -> None:
        # FormatStill.setup hides what goes wrong in _detector and _beam, but not here.
        with h5py.File(self._image_file, "r") as handle:
            metadata = handle["metadata"]
            # (fast, slow), pixels
            self._image_size = (
                int(self._number(metadata, "SIZE1")),
                int(self._number(metadata, "SIZE2")),
            )
            self._pixel_size = self._number(metadata, "PIXEL_SIZE")  # mm
            # (fast, slow), mm
            self._beam_centre = (
                self._number(metadata, "BEAM_CENTER_X"),
                self._number(metadata, "BEAM_CENTER_Y"),
            )
            # A pixel at MIN_TRUSTED_VALUE is trusted, one at SATURATED_VALUE is not.
            # dxtbx excludes both ends of the range before 3.12 and includes them since:
            # halfway between integers it makes no difference.
            self._trusted_range = (
                max(self._number(metadata, "MIN_TRUSTED_VALUE"), self._least_trusted)
                - 0.5,
                self._number(metadata, "SATURATED_VALUE") - 0.5,
            )
            self._active_areas = self._read_active_areas(metadata)
            self._chunks = self._read_chunk_sizes(handle)
        self._detectors: dict[float, Detector] = {}

    def _damaged(self, problem: str) -> ValueError:
        return ValueError(
            f"{self._image_file}: {problem}. The file is of the layout "
            f"{VERSION.decode()} (CXIDB-76) but damaged: copy it or write it again."
        )

    def _number(self, metadata: h5py.Group, name: str) -> float:
        """The finite number /metadata/NAME; ValueError where there is none."""
        if name not in metadata:
            raise self._damaged(f"/metadata/{name} is missing")
        try:
            number = float(_first(metadata[name]))
        except (AttributeError, IndexError, TypeError, ValueError):
            raise self._damaged(f"/metadata/{name} is not a number") from None
        if not np.isfinite(number):
            raise self._damaged(f"/metadata/{name} is {number}")
        return number

    def _read_active_areas(self, metadata: h5py.Group) -> NDArray[np.int64]:
        """The n rectangles of ACTIVE_AREAS, (n, 4): slow1, fast1, slow2, fast2."""
        if "ACTIVE_AREAS" not in metadata or not metadata["ACTIVE_AREAS"].size:
            return np.empty((0, 4), dtype=int)
        numbers = np.ravel(metadata["ACTIVE_AREAS"][()]).astype(int)
        if numbers.size % 4:
            raise self._damaged(
                f"/metadata/ACTIVE_AREAS has {numbers.size} numbers, not 4 an area"
            )
        areas = numbers.reshape(-1, 4)
        fast, slow = self._image_size
        for area in areas:
            slow1, fast1, slow2, fast2 = area
            if not (0 <= slow1 < slow2 <= slow and 0 <= fast1 < fast2 <= fast):
                raise self._damaged(
                    f"the active area {area.tolist()} does not lie within the image "
                    f"of {slow} x {fast} pixels (slow, fast)"
                )
        return areas

    def _read_chunk_sizes(self, handle: h5py.File) -> dict[str, int]:
        """Name and number of images of each chunk, in the order of the images."""
        sizes = {}
        fast, slow = self._image_size
        for name in sorted(handle.get("data", ())):
            for wanted in ("images", "distance", "wavelength"):
                if not isinstance(handle.get(f"data/{name}/{wanted}"), h5py.Dataset):
                    raise self._damaged(f"/data/{name}/{wanted} is missing")
            chunk = handle["data"][name]
            images = chunk["images"]
            if images.ndim != 3 or images.shape[1:] != (slow, fast):
                raise self._damaged(
                    f"/data/{name}/images has the shape {images.shape}, not (n, "
                    f"{slow}, {fast}), that is (n, SIZE2, SIZE1)"
                )
            if not np.can_cast(images.dtype, np.int32):
                raise self._damaged(
                    f"/data/{name}/images holds {images.dtype}, not int32"
                )
            for per_image in ("distance", "wavelength"):
                if chunk[per_image].shape != images.shape[:1]:
                    raise self._damaged(
                        f"/data/{name}/{per_image} has the shape "
                        f"{chunk[per_image].shape} for {images.shape[0]} images"
                    )
            sizes[name] = images.shape[0]
        if not sum(sizes.values()):
            raise self._damaged("/data holds no images")
        return sizes

    @functools.cached_property
    def _distances(self) -> NDArray[np.float64]:
        """Detector distance of each image, (n,), mm."""
        return self._read_per_image("distance")

    @functools.cached_property
    def _wavelengths(self) -> NDArray[np.float64]:
        """Wavelength of each image, (n,), A."""
        return self._read_per_image("wavelength")

    def _read_per_image(self, name: str) -> NDArray[np.float64]:
        """One of the numbers per image, (n,), in the order of the images."""
        with h5py.File(self._image_file, "r") as handle:
            return np.concatenate(
                [handle["data"][chunk][name][()] for chunk in self._chunks]
            ).astype(float)

    def _positive(self, name: str, value: float, unit: str, index: int) -> float:
        """The value, if it is positive and finite; else ValueError."""
        if not 0 < value < np.inf:
            raise self._damaged(f"the {name} of image {index} is {value} {unit}")
        return float(value)

    def get_num_images(self) -> int:
        """Images in the file, in all chunks."""
        return sum(self._chunks.values())

    def get_detector(self, index: int | None = None) -> Detector:
        """The detector at the distance of an image."""
        return self._detector(index or 0)

    def get_beam(self, index: int | None = None) -> Beam:
        """The beam with the wavelength of an image."""
        return self._beam(index or 0)

    def _detector(self, index: int = 0) -> Detector:
        distance = self._positive("distance", self._distances[index], "mm", index)
        # Images at the same distance share one model, as those of most formats do.
        if distance not in self._detectors:
            self._detectors[distance] = self._detector_factory.simple(
                sensor=self._sensor,
                distance=distance,
                beam_centre=self._beam_centre,
                fast_direction="+x",
                slow_direction="-y",
                pixel_size=(self._pixel_size, self._pixel_size),
                image_size=self._image_size,
                trusted_range=self._trusted_range,
                mask=[],
            )
        return self._detectors[distance]

    def _beam(self, index: int = 0) -> Beam:
        wavelength = self._positive("wavelength", self._wavelengths[index], "A", index)
        return self._beam_factory.simple(wavelength)

    def get_static_mask(self) -> tuple[flex.bool] | None:
        """The active areas without their borders.

        Returns:
            bool (slow, fast), True = use; None if the file gives no area. A new one at
            each call, since dxtbx writes the user's mask into it.
        """
        if not len(self._active_areas):
            return None
        fast, slow = self._image_size
        border = self._border
        mask = np.zeros((slow, fast), dtype=bool)
        for slow1, fast1, slow2, fast2 in self._active_areas:
            mask[slow1 + border : slow2 - border, fast1 + border : fast2 - border] = (
                True
            )
        return (flumpy.from_numpy(mask),)

    def get_raw_data(self, index: int | None = None) -> flex.int:
        """One image.

        Args:
            index: From 0; None is the first.

        Returns:
            int32 (slow, fast), ADU.

        Raises:
            IndexError: The file has no such image.
            OSError: The image cannot be read.
        """
        index = index or 0
        chunk, row = self._locate(index)
        try:
            with h5py.File(self._image_file, "r") as handle:
                image = handle["data"][chunk]["images"][row]
        except OSError as error:
            raise OSError(
                f"{self._image_file}: cannot read image {index}: {error}"
            ) from error
        return flumpy.from_numpy(image.astype(np.int32, copy=False))

    def _locate(self, index: int) -> tuple[str, int]:
        """The chunk that holds an image, and the image's index in it."""
        row = index
        for chunk, size in self._chunks.items():
            if 0 <= row < size:
                return chunk, row
            row -= size
        raise IndexError(
            f"{self._image_file} has images 0 to {self.get_num_images() - 1}, "
            f"image {index} was requested"
        )
