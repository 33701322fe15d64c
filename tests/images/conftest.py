"""Detectors of a few small panels, and files of another layout than CXIDB-76."""

from __future__ import annotations

import h5py
import pytest

PIXEL = 0.1  # mm


def _make_detector(*panels, size=(20, 30), trusted_range=(-1e30, 1e30)):
    """A detector of panels of 20 x 30 pixels (fast, slow) of 0.1 mm.

    panels: (fast axis, slow axis, origin in mm) of each.
    """
    from dxtbx.model import Detector

    detector = Detector()
    for fast, slow, origin in panels:
        panel = detector.add_panel()
        panel.set_image_size(size)
        panel.set_pixel_size((PIXEL, PIXEL))
        panel.set_trusted_range(trusted_range)
        panel.set_frame(fast, slow, origin)
    return detector


@pytest.fixture
def make_detector():
    """The function make_detector(*panels, size=..., trusted_range=...) -> Detector."""
    return _make_detector


def _write_nxmx(path, images, *, bit_depth=None, pixel_mask=None, data=None, **storage):
    """Write images (n, slow, fast) as NXmx, as detectors of Dectris do.

    storage: how h5py stores them. data: what stands at /entry/data/data instead, such
    as a link or a virtual layout.
    """
    _, slow, fast = images.shape
    with h5py.File(path, "w") as handle:

        def group(name, nx_class):
            made = handle.create_group(name)
            made.attrs["NX_class"] = nx_class
            return made

        def number(parent, name, value, units, **attributes):
            parent[name] = value
            parent[name].attrs.update(units=units, **attributes)

        group("entry", "NXentry")["definition"] = "NXmx"
        nxdata = group("entry/data", "NXdata")
        nxdata.attrs["signal"] = "data"
        if data is None:
            nxdata.create_dataset("data", data=images, **storage)
        elif isinstance(data, h5py.VirtualLayout):
            nxdata.create_virtual_dataset("data", data)
        else:
            nxdata["data"] = data
        group("entry/instrument", "NXinstrument")["name"] = "beamline"
        beam = group("entry/instrument/beam", "NXbeam")
        number(beam, "incident_wavelength", 1.0, "angstrom")
        detector = group("entry/instrument/detector", "NXdetector")
        detector["sensor_material"] = "Si"
        detector["saturation_value"] = 5000
        detector["underload_value"] = 0
        number(detector, "sensor_thickness", 0.45, "mm")
        if bit_depth is not None:
            detector["bit_depth_readout"] = bit_depth
        if pixel_mask is not None:
            detector["pixel_mask"] = pixel_mask
        along = group("entry/instrument/detector/transformations", "NXtransformations")
        moves = {"transformation_type": "translation", "depends_on": "."}
        number(along, "z", 100.0, "mm", vector=(0.0, 0.0, 1.0), **moves)
        moves["depends_on"] = detector["depends_on"] = f"{along.name}/z"
        module = group("entry/instrument/detector/module", "NXdetector_module")
        module["data_origin"] = 0, 0
        module["data_size"] = slow, fast
        corner = {"offset": (fast * 0.05, slow * 0.05, 0.0), "offset_units": "mm"}
        x, y = (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)
        number(module, "fast_pixel_direction", 0.1, "mm", vector=x, **moves, **corner)
        number(module, "slow_pixel_direction", 0.1, "mm", vector=y, **moves, **corner)
        group("entry/sample", "NXsample")["depends_on"] = "."
    return path


@pytest.fixture
def write_nxmx():
    """The function write(path, images, *, bit_depth=..., pixel_mask=...) -> path."""
    return _write_nxmx
