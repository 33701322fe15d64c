"""The frame of an NXmx file: what dxtbx has to know of beam, detector and pixels.

The panels of a detector lie one below the other in the images, and each is a module.
https://manual.nexusformat.org/classes/applications/NXmx.html
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from dxtbx.model import Beam, Detector, Panel
from numpy.typing import NDArray

from dials_cnn_screen.outputs.geometry import PanelFrame, frame_panels

if TYPE_CHECKING:
    import h5py

DETECTOR = "/entry/instrument/detector"
# The sensors that dxtbx knows in NXmx. For any other there is silicon, and so thin (mm)
# that its parallax is nothing: dxtbx takes no thickness of 0.
SENSORS = ("Si", "CdTe", "GaAs")
THIN = 1e-6


def write_nxmx(
    handle: h5py.File,
    detector: Detector,
    beam: Beam,
    masks: list[NDArray[np.bool_]],
    trusted: tuple[float, float],
) -> None:
    """Write what an NXmx file has beside its images and what each of them has.

    Args:
        handle: A file with the images in /entry/data.
        detector, beam: Of the images.
        masks: bool (slow, fast) of each panel, True = use.
        trusted: The least and the greatest trusted value.
    """
    entry = _group(handle, "entry", "NXentry")
    entry["definition"] = "NXmx"
    _group(entry, "sample", "NXsample")["depends_on"] = "."
    instrument = _group(entry, "instrument", "NXinstrument")
    _group(instrument, "beam", "NXbeam")
    _write_detector(instrument, detector, beam, masks, trusted)
    _group(entry, "data", "NXdata").attrs["signal"] = "data"


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def write_number(
    parent: h5py.Group, name: str, value: NDArray | float, units: str
) -> None:
    """Write numbers with their units."""
    parent[name] = value
    parent[name].attrs["units"] = units


def _write_detector(
    instrument: h5py.Group,
    detector: Detector,
    beam: Beam,
    masks: list[NDArray[np.bool_]],
    trusted: tuple[float, float],
) -> None:
    group = _group(instrument, "detector", "NXdetector")
    frames = frame_panels(detector, beam)
    material, thickness = _sensor(detector[0])
    group["sensor_material"] = material
    write_number(group, "sensor_thickness", thickness, "mm")
    # dxtbx takes whole numbers, and before 3.12 leaves the greatest one out.
    for name, value in zip(
        ("underload_value", "saturation_value"), trusted, strict=True
    ):
        if math.isfinite(value):
            group[name] = value
    group["pixel_mask"] = (~np.concatenate(masks)).astype(np.int32)
    group["depends_on"] = f"{DETECTOR}/transformations/panel_00000"
    _group(group, "transformations", "NXtransformations")
    for i, frame in enumerate(frames):
        _write_module(group, i, frame)


def _sensor(panel: Panel) -> tuple[str, float]:
    """Material and thickness (mm) of a panel's sensor."""
    if panel.get_material() in SENSORS and panel.get_thickness() > 0:
        return panel.get_material(), panel.get_thickness()
    return "Si", THIN


def _write_module(detector: h5py.Group, i: int, frame: PanelFrame) -> None:
    """One panel: its place in the images and in the laboratory.

    dxtbx takes modules in the order of their names.
    """
    place = f"{DETECTOR}/transformations/panel_{i:05d}"
    length = float(np.linalg.norm(frame.origin))
    direction = frame.origin / length if length else np.array([0.0, 0.0, 1.0])
    write_number(detector, place, length, "mm")
    _translate(detector[place], direction, ".")
    width, height = frame.size
    module = _group(detector, f"module_{i:05d}", "NXdetector_module")
    module["data_origin"] = [frame.first_row, 0]
    module["data_size"] = [height, width]
    axes = ("fast", frame.fast), ("slow", frame.slow)
    for (name, vector), pixel in zip(axes, frame.pixel_size, strict=True):
        write_number(module, f"{name}_pixel_direction", pixel, "mm")
        _translate(module[f"{name}_pixel_direction"], vector, place)
    write_number(module, "module_offset", 0.0, "mm")
    _translate(module["module_offset"], direction, place)


def _translate(
    dataset: h5py.Dataset, vector: NDArray[np.float64], depends_on: str
) -> None:
    """Make a number a translation along a unit vector, after another one."""
    dataset.attrs.update(
        transformation_type="translation",
        vector=vector,
        offset=np.zeros(3),
        offset_units="mm",
        depends_on=depends_on,
    )
