"""Imagesets that can read, for experiments that were read without formats.

DIALS reads experiments with formats (check_format=True) by opening the file of each
image anew, some 40 ms an image of a large file. Without, it takes 0.3 ms an image, and
here the format of a file is found once, when its first image is read.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any, NamedTuple

from dxtbx import flumpy
from dxtbx.format.Format import Format
from dxtbx.format.FormatMultiImage import FormatMultiImage
from dxtbx.format.image import ImageBool, ImageDouble
from dxtbx.format.Registry import get_format_class_for_file
from dxtbx.imageset import ImageSequence, ImageSet, ImageSetData, ImageSetFactory
from scitbx.array_family import flex

# External lookup files of an imageset, and what dxtbx keeps their pixels in.
LOOKUPS = {
    "mask": ImageBool,
    "gain": ImageDouble,
    "pedestal": ImageDouble,
    "dx": ImageDouble,
    "dy": ImageDouble,
}


class ImageFile(NamedTuple):
    """A file of one image or more, and how it is read.

    Attributes:
        path: With folders.
        params: Options of the format.
        format_class: That of dxtbx's registry.
        mask: The format's static mask and a user's mask combined; empty if there is
            neither.
        mask_filename: Of the user's mask, "" for none.
    """

    path: str
    params: dict[str, Any]
    format_class: type[Format]
    mask: ImageBool
    mask_filename: str


class Opener:
    """Opens imagesets without a format; the last file or sequence stays open."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._file: ImageFile | None = None
        self._sequence: tuple[ImageSequence, ImageSequence] | None = None

    def open(self, imageset: ImageSet, position: int) -> tuple[ImageSet, int]:
        """An imageset that reads the image at a position, and its position in that one.

        Args:
            imageset: Read with or without its format; with, it is returned as it is.
            position: The image's index in it.

        Raises:
            OSError: dxtbx has no format for the file.
            Exception: Whatever the format raises for a file that cannot be read.
        """
        if imageset.get_format_class() not in (Format, FormatMultiImage):
            return imageset, position
        if isinstance(imageset, ImageSequence):
            return self._open_sequence(imageset), position
        return self._open_image(imageset, position), 0

    def _open_sequence(self, imageset: ImageSequence) -> ImageSequence:
        """The same sequence, as dxtbx makes it with the format."""
        if self._sequence is None or self._sequence[0] is not imageset:
            first, last = imageset.get_scan().get_image_range()
            opened = ImageSetFactory.make_sequence(
                imageset.get_template(),
                list(range(first, last + 1)),
                beam=imageset.get_beam(),
                detector=imageset.get_detector(),
                goniometer=imageset.get_goniometer(),
                scan=imageset.get_scan(),
                format_kwargs=imageset.params(),
            )
            mask = _with_user_mask(
                opened.external_lookup.mask.data, imageset.external_lookup.mask.filename
            )
            _look_up(opened, imageset, mask)
            self._sequence = imageset, opened
        return self._sequence[1]

    def _open_image(self, imageset: ImageSet, position: int) -> ImageSet:
        """An imageset of one image, as dxtbx makes it with the format."""
        file = self._open_file(imageset, position)
        reader, images = file.format_class.get_reader(), {}
        indices = None
        if issubclass(file.format_class, FormatMultiImage):
            images = {"num_images": 1}
            indices = flex.size_t([imageset.indices()[position]])
        data = ImageSetData(
            reader=reader([file.path], **images, **file.params),
            masker=None,
            vendor="",
            params=file.params,
            format=file.format_class,
        )
        opened = ImageSet(data) if indices is None else ImageSet(data, indices)
        opened.set_beam(imageset.get_beam(position), 0)
        opened.set_detector(imageset.get_detector(position), 0)
        _look_up(opened, imageset, file.mask)
        return opened

    def _open_file(self, imageset: ImageSet, position: int) -> ImageFile:
        path, params = imageset.get_path(position), imageset.params()
        mask_filename = imageset.external_lookup.mask.filename
        last = self._file
        if last is not None and (path, params, mask_filename) == (
            last.path,
            last.params,
            last.mask_filename,
        ):
            return last
        hint = None if last is None else last.format_class.__name__
        format_class = get_format_class_for_file(path, format_hint=hint)
        if format_class is None:
            raise OSError(f"{path}: dxtbx has no format for this file")
        # Those opened before may have an instance for what the file was then.
        format_class._current_instance_ = format_class._current_filename_ = None
        static_mask = format_class.get_instance(path, **params).get_static_mask()
        mask = ImageBool() if static_mask is None else ImageBool(static_mask)
        mask = _with_user_mask(mask, mask_filename)
        self._file = ImageFile(path, params, format_class, mask, mask_filename)
        return self._file


def _look_up(opened: ImageSet, imageset: ImageSet, mask: ImageBool) -> None:
    """Give an opened imageset its mask, and the other lookup files of its original."""
    opened.external_lookup.mask.data = mask
    for name in LOOKUPS:
        filename = getattr(imageset.external_lookup, name).filename
        if filename and name != "mask":
            getattr(opened.external_lookup, name).data = load_lookup(name, filename)
            opened.update_detector_px_mm_data()


def _with_user_mask(mask: ImageBool, filename: str) -> ImageBool:
    """A mask combined with that of a file; as it is where the name is ""."""
    if not filename:
        return mask
    user = load_lookup("mask", filename)
    if mask.empty():
        return user
    both = [
        flumpy.to_numpy(m.data()) & flumpy.to_numpy(u.data())
        for m, u in zip(mask, user, strict=True)
    ]
    return ImageBool(tuple(flumpy.from_numpy(m) for m in both))


@functools.lru_cache(maxsize=8)
def load_lookup(name: str, filename: str) -> ImageBool | ImageDouble:
    """The pixels of a lookup file of DIALS, a pickle, kept for the next image."""
    with open(filename, "rb") as file:
        return LOOKUPS[name](pickle.load(file, encoding="bytes"))
