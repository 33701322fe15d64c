"""The files among the arguments of a program, and which of them can't be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from dxtbx.format.FormatMultiImage import FormatMultiImage
from dxtbx.format.Registry import get_format_class_for_file
from dxtbx.imageset import ImageSequence, ImageSet
from dxtbx.model import Beam, Detector, ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory
from scitbx.array_family import flex

from dials_cnn_screen.util.errors import one_line, shorten
from dials_cnn_screen.util.input_words import expand

# What DIALS's parser takes for something else than images.
_NO_IMAGES = (".phil", ".refl", ".pickle")
# In one file; dxtbx takes 3 kB of memory for each of them. By hand.
MOST_IMAGES = 10**6

# What h5py raises where a file is damaged.
_H5PY_ERRORS = OSError, RuntimeError, KeyError
_SHOWN = 3  # missing data files in a message of one line


def find_image_files(words: Iterable[str]) -> list[str]:
    """Image files and experiment lists among words of the command line."""
    return [
        file
        for word in words
        if "=" not in word
        for file in expand(word)
        if os.path.isfile(file) and not file.endswith(_NO_IMAGES)
    ]


def find_unreadable(files: Iterable[str]) -> dict[str, str]:
    """The files that dxtbx can't read, and why, in one line each."""
    unreadable = {}
    for file in files:
        try:
            _read(file)
        except Exception as error:  # whatever dxtbx or a file format may raise
            unreadable[file] = why_unreadable(file, error)
    return unreadable


def why_unreadable(file: str, error: Exception) -> str:
    """Why a file can't be read, in one line; data files that it lacks are named.

    error: what dxtbx raised, of which the cause is often not to be seen.
    """
    if missing := find_missing_data(file):
        more = len(missing) - _SHOWN
        names = ", ".join(missing[:_SHOWN] + [f"{more} more"] * (more > 0))
        return f"data files that it names are missing: {shorten(names)}"
    return one_line(error)


def find_missing_data(file: str) -> list[str]:
    """The files that an HDF5 file, as a master of Dectris, names and that are gone."""
    import h5py

    missing: dict[str, None] = {}

    def check(group: h5py.HLObject) -> None:
        for key in group if isinstance(group, h5py.Group) else ():
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                beside = os.path.join(os.path.dirname(file), link.filename)
                if not os.path.exists(beside):
                    missing[link.filename] = None

    if os.path.isfile(file) and h5py.is_hdf5(file):
        with contextlib.suppress(*_H5PY_ERRORS), h5py.File(file, "r") as handle:
            check(handle)
            handle.visititems(lambda _, item: check(item))
    return list(missing)


def read_image_by_image(file: str) -> ExperimentList:
    """The images of a file of several, those without models among them.

    dxtbx refuses the whole file where the models of one image can't be made, as for a
    distance that is not a number. Here that image has none.

    Raises:
        Exception: Whatever dxtbx or a file format raises: the fault is not with some of
            the images only.
    """
    check_claims(file)
    path = os.path.abspath(file)
    format_class = get_format_class_for_file(path)
    if format_class is None or not issubclass(format_class, FormatMultiImage):
        raise ValueError(f"{file} is not a file of several images")
    instance = format_class.get_instance(path)
    models = [_read_models(instance, i) for i in range(instance.get_num_images())]
    good = [i for i, (beam, detector) in enumerate(models) if beam and detector]
    if not good:
        instance.get_beam(0), instance.get_detector(0)
        raise ValueError("no image has a beam and a detector model")
    # One that dxtbx makes knows the masks of the format too.
    imageset = format_class.get_imageset([path], single_file_indices=good)
    if isinstance(imageset, ImageSequence):
        raise ValueError(f"{file} is not a file of stills")
    whole = ImageSet(imageset.data(), flex.size_t(range(len(models))))
    whole.external_lookup.mask.data = imageset.external_lookup.mask.data
    for i, (beam, detector) in enumerate(models):
        whole.set_beam(beam, i)
        whole.set_detector(detector, i)
    return ExperimentListFactory.from_imageset_and_crystal(whole, None)


def _read_models(instance: Any, index: int) -> tuple[Beam | None, Detector | None]:
    """The models of an image; None twice where they can't be made."""
    try:
        return instance.get_beam(index), instance.get_detector(index)
    except Exception:  # whatever a file format may raise
        return None, None


def check_claims(file: str) -> None:
    """Refuse an HDF5 file that claims too many images, before dxtbx opens it.

    Raises:
        ValueError: It is more than MOST_IMAGES.
    """
    # Not above: h5py is not for those who only ask for help.
    import h5py

    def check(name: str, item: h5py.HLObject) -> None:
        shape: tuple[int, ...] = getattr(item, "shape", None) or ()
        if len(shape) > 2 and shape[0] > MOST_IMAGES:
            raise ValueError(
                f"/{name} claims {shape[0]} images, more than {MOST_IMAGES}"
            )

    if os.path.isfile(file) and h5py.is_hdf5(file):
        # dxtbx says why it can't be read.
        with contextlib.suppress(*_H5PY_ERRORS), h5py.File(file, "r") as handle:
            handle.visititems(check)


def _read(file: str) -> None:
    check_claims(file)
    if file.endswith((".expt", ".json")):
        try:
            ExperimentList.from_file(file, check_format=False)
        except ValueError as error:  # of JSON, or of bytes that are no text
            raise ValueError(f"it is no experiment list ({error})") from error
        return
    unhandled: list[str] = []
    ExperimentListFactory.from_filenames([file], unhandled=unhandled)
    if unhandled:
        raise ValueError(
            "it is neither an image that dxtbx can read nor an experiment list"
        )
