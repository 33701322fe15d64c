"""What CrystFEL reads: a geometry file for the HDF5 file of hits, and event lists."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from dxtbx.model import Beam, Detector
from numpy.typing import NDArray

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.outputs.geometry import frame_panels
from dials_cnn_screen.util.files import replacing

# Where CrystFEL finds what it needs in the HDF5 file of hits.
DATA = "/entry/data/data"
DISTANCE = "/entry/instrument/detector/distance"
MASK = "/entry/instrument/detector/pixel_mask"
WAVELENGTH = "/entry/instrument/beam/incident_wavelength"
PEAKS = "/entry_1/result_1"


def write_events(path: str | Path, stills: Iterable[Still]) -> None:
    """Write a list of images for ``indexamajig -i``, in the files that they came from.

    The line of an image in a file of several ends with ``//`` and its place from 0, as
    for data with the images along the first axis.
    """
    lines = []
    for still in stills:
        event = ""
        if still.imageset.reader().is_single_file_reader():
            event = f" //{still.name.number - 1}"
        lines.append(f"{still.name.path}{event}\n")
    with replacing(path) as unfinished:
        Path(unfinished).write_text("".join(lines), encoding="utf-8")


def write_geometry(
    path: str | Path,
    detector: Detector,
    beam: Beam,
    trusted: tuple[float, float],
    distance: float | None,
) -> None:
    """Write the geometry file that goes with the HDF5 file of hits.

    CrystFEL counts x, y and z as NeXus does, x and y in pixels of the panel, from the
    beam; see ``man crystfel_geometry``.

    Args:
        path: Such as hits.geom.
        detector: Of the images.
        beam: Its direction counts.
        trusted: The least and the greatest trusted value, ADU.
        distance: That of find_distance for all images; None where each has its own.
    """
    frames = frame_panels(detector, beam)
    clen = f"{DISTANCE} mm" if distance is None else f"{distance / 1e3:.9g} m"
    lines = [
        "; Written by dials.cnn_screen, for CrystFEL 0.9.1 or later",
        f"wavelength = {WAVELENGTH} A",
        f"clen = {clen}",
        f"data = {DATA}",
        "dim0 = %",
        "dim1 = ss",
        "dim2 = fs",
        f"mask = {MASK}",
        "mask_good = 0x0",
        "mask_bad = 0xffffffff",
        *(
            f"{name} = {value:.9g}"
            for name, value in zip(
                ("flag_lessthan", "flag_morethan"), trusted, strict=True
            )
            if math.isfinite(value)
        ),
        f"peak_list = {PEAKS}",
        "peak_list_type = cxi",
    ]
    for number, (panel, frame) in enumerate(zip(detector, frames, strict=True)):
        name = f"p{number}"
        # The pixels of a panel have one size in CrystFEL; the axes carry the rest.
        pixel = frame.pixel_size[0]
        corner = frame.origin / pixel
        width, height = frame.size
        gain = panel.get_gain() if panel.get_gain() > 0 else 1.0
        lines += [
            "",
            f"{name}/min_fs = 0",
            f"{name}/max_fs = {width - 1}",
            f"{name}/min_ss = {frame.first_row}",
            f"{name}/max_ss = {frame.first_row + height - 1}",
            f"{name}/res = {1e3 / pixel:.9g}",
            f"{name}/adu_per_photon = {gain:.9g}",
            f"{name}/fs = {_axis(frame.fast)}",
            f"{name}/ss = {_axis(frame.slow * frame.pixel_size[1] / pixel)}",
            f"{name}/corner_x = {corner[0]:.6f}",
            f"{name}/corner_y = {corner[1]:.6f}",
            f"{name}/coffset = {(frame.origin[2] - frames[0].origin[2]) / 1e3:.9g}",
        ]
    with replacing(path) as unfinished:
        Path(unfinished).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _axis(vector: NDArray) -> str:
    """A vector as CrystFEL writes it, such as +1.0x +0.0y +0.0z."""
    return " ".join(f"{x:+.10f}{name}" for x, name in zip(vector, "xyz", strict=True))
