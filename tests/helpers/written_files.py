"""Files of made-up images, in the layouts of the instruments that write them."""

from __future__ import annotations

import h5py
import numpy as np

# slow1, fast1, slow2, fast2: four tiles of 28 x 28 pixels in an image of 60 x 60.
FOUR_TILES = [1, 1, 29, 29, 1, 31, 29, 59, 31, 1, 59, 29, 31, 31, 59, 59]


def write_cxidb76(
    path,
    images,
    *,
    kind="CSPAD",
    n_chunks=1,
    distance=100.0,
    wavelength=1.3,
    **metadata,
):
    """Write images (n, slow, fast) in the layout idh5_v1.0 of CXIDB-76.

    distance (mm) and wavelength (A) are one number, or one for each image. Keywords in
    capitals replace entries of /metadata; None leaves an entry out.
    """
    images = np.asarray(images)
    n_images, slow, fast = images.shape
    cspad = kind == "CSPAD"
    entries = {
        "idh5_version": np.bytes_(b"idh5_v1.0"),
        "BEAM_CENTER_X": 3.3,
        "BEAM_CENTER_Y": 2.2,
        "PIXEL_SIZE": 0.11 if cspad else 0.0886,
        "SIZE1": fast,
        "SIZE2": slow,
        "MIN_TRUSTED_VALUE": -20 if cspad else 0,
        "SATURATED_VALUE": 16383 if cspad else 65535,
        "ACTIVE_AREAS": FOUR_TILES if cspad else [0, 0, slow, fast],
        **metadata,
    }
    per_image = {
        "images": images,
        "distance": np.broadcast_to(distance, n_images).astype(float),
        "wavelength": np.broadcast_to(wavelength, n_images).astype(float),
        "timestamp": np.arange(n_images, dtype=float),
    }
    with h5py.File(path, "w") as handle:
        for name, value in entries.items():
            if value is not None:
                handle[f"metadata/{name}"] = value
        for name, values in per_image.items():
            for i, part in enumerate(np.array_split(values, n_chunks)):
                handle[f"data/chunk{i}/{name}"] = part
    return path


def write_nxmx(path, images, *, bit_depth=None, pixel_mask=None, data=None, **storage):
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


def write_levels(path, levels, **others):
    """Write one Rayonix frame of 80 x 80 pixels for each level, nearly flat, in ADU."""
    ripple = np.indices((80, 80)).sum(axis=0) % 2
    images = np.asarray(levels)[:, None, None] + ripple
    return write_cxidb76(
        path,
        images.astype(np.int32),
        kind="Rayonix",
        **{"BEAM_CENTER_X": 40 * 0.0886, "BEAM_CENTER_Y": 40 * 0.0886, **others},
    )
