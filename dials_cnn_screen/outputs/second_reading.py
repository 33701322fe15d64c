"""Kept images read a second time, for what is made of their pixels.

A run keeps no pixels. Where strong.refl or hits.h5 is asked for, the images that are
kept, and those alone, are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from dials.array_family import flex
from dxtbx.model import ExperimentList
from numpy.typing import NDArray

from dials_cnn_screen.images.opening import Opener
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.outputs.hits_file import (
    HitImage,
    PackedImage,
    pack_image,
    write_hits,
)
from dials_cnn_screen.outputs.strong import (
    estimate_d_min,
    extract_spots,
    frame_number,
    write_strong,
)
from dials_cnn_screen.screening.parameters import Output
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import count_processes, map_on_workers

logger = logging.getLogger("dials.cnn_screen")


class KeptImage(NamedTuple):
    """An image to read again.

    Attributes:
        still: The image.
        spots: Those of its prediction; None where there are none to be extracted.
    """

    still: Still
    spots: NDArray[np.int64] | None


class Reading(NamedTuple):
    """What was taken from a kept image.

    Attributes:
        error: Why it could not be read; None where it could.
        spots: Its spots; None where there were none to be extracted.
        d_min: Its resolution, Angstrom; None where its spots do not tell.
        packed: Its pixels; None where they were not asked for.
    """

    error: str | None = None
    spots: flex.reflection_table | None = None
    d_min: float | None = None
    packed: PackedImage | None = None


class Reader(NamedTuple):
    """What each process has: what opens images, and whether their pixels are wanted."""

    opener: Opener
    pixels: bool


def make_reader(pixels: bool) -> Reader:
    """A reader with nothing open yet."""
    return Reader(Opener(), pixels)


def read_kept(reader: Reader, kept: KeptImage) -> Reading:
    """Read one image; an error becomes part of the reading."""
    still, spots = kept
    try:
        imageset, index = reader.opener.open(still.imageset, still.position)
        table, d_min = None, None
        if spots is not None:
            table = extract_spots(imageset, index, frame_number(still), spots)
            d_min = estimate_d_min(table, imageset, index)
        packed = pack_image(imageset, index) if reader.pixels else None
        imageset.clear_cache()
    except Exception as problem:  # whatever dxtbx or a file format may raise
        return Reading(one_line(problem))
    return Reading(None, table, d_min, packed)


def write_from_pixels(
    output: Output,
    stills: Sequence[Still],
    images: Sequence[ImageResult],
    hits: ExperimentList,
    nproc: Any,
) -> tuple[list[ImageResult], list[str]]:
    """Write what is made of the pixels of kept images: their spots, and themselves.

    Images that can't be read are left out of both, with a line in the log. As in
    write_kept; hits are the experiments of the kept images.

    Raises:
        ValueError, OSError: As write_hits does.
        ChildProcessError: A process died, for instance for want of memory.
    """
    kept = [
        KeptImage(still, None if image.prediction is None else image.prediction.spots)
        for still, image in zip(stills, images, strict=False)
        if image.kept
    ]
    readings: dict[ImageName, Reading] = {}
    logger.info("Reading the %d images that are kept again", len(kept))
    nproc = count_processes(nproc, len(kept))
    stream = map_on_workers(
        read_kept, kept, nproc, make_reader, (output.hdf5 is not None,)
    )
    tracked = track(stream, "Reading again", len(kept))

    def read() -> Iterator[HitImage]:
        for (still, _), reading in zip(kept, tracked, strict=True):
            # Pixels go to the file and are not kept here.
            readings[still.name] = reading._replace(packed=None)
            if reading.error is not None:
                logger.warning("%s can't be read again: %s", still.name, reading.error)
            elif reading.packed is not None:
                yield HitImage(still, reading.packed, reading.spots)

    saved = []
    if output.hdf5 is None or output.geometry is None:
        list(read())
    else:
        saved.append(_write_hits(output.hdf5, output.geometry, read(), len(kept)))
    if output.strong is not None:
        tables = {n: r.spots for n, r in readings.items() if r.spots is not None}
        n_spots = write_strong(output.strong, tables, hits)
        saved.append(f"{n_spots} spots of {len(tables)} images to {output.strong}")
    results = [
        replace(image, d_min=readings[image.name].d_min)
        if image.name in readings
        else image
        for image in images
    ]
    return results, saved


def _write_hits(
    path: str, geometry: str, images: Iterator[HitImage], n_kept: int
) -> str:
    """Write the HDF5 file of hits; what is in it, a phrase."""
    written = write_hits(path, geometry, images)
    if written.n_moved:
        logger.warning(
            "%s has one detector for all images, that of the first: for %d of them it "
            "is elsewhere, such as at another distance. CrystFEL reads the distance of "
            "each; for DIALS hits.expt has the right detectors",
            path,
            written.n_moved,
        )
    return (
        f"the pixels of {written.n_images} of {n_kept} kept images to {path}, and its "
        f"geometry for CrystFEL to {geometry}"
    )
