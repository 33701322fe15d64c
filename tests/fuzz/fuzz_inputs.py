"""Small inputs of every kind that the programs read, and damage to them.

All is drawn from a generator of random numbers: the same seed gives the same damage.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from dxtbx import flumpy
from dxtbx.format.FormatCBFMini import FormatCBFMini
from dxtbx.model import (
    BeamFactory,
    DetectorFactory,
    GoniometerFactory,
    ScanFactory,
)
from dxtbx.model.experiment_list import ExperimentListFactory
from numpy.random import Generator
from numpy.typing import NDArray

EDGE = 120  # pixels of a frame's edge: large enough for a window of the background
_PIXEL, _DISTANCE, _WAVELENGTH = 0.1, 100.0, 1.3  # mm, mm, A

# What stands in the place of a number, or of anything.
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, 1e308, -1e308, 1e-300)
ODD_NUMBERS += (float("nan"), float("inf"), -float("inf"))
ODD_VALUES = (*ODD_NUMBERS, None, "", "x" * 100_000, [], {}, True, "../..", "\x00")


def make_images(n: int = 3) -> NDArray[np.int32]:
    """Frames (n, slow, fast) of noise; the first has some spots."""
    rng = np.random.default_rng(0)
    images = rng.poisson(20, (n, EDGE, EDGE)).astype(np.int32)
    images[0, 10:EDGE:25, 12:EDGE:27] += 500
    return images


def write_cxidb76(path: Path) -> None:
    """Three frames in the layout of CXIDB-76."""
    images = make_images()
    metadata = {
        "idh5_version": np.bytes_(b"idh5_v1.0"),
        "BEAM_CENTER_X": EDGE / 2 * _PIXEL,
        "BEAM_CENTER_Y": EDGE / 2 * _PIXEL,
        "PIXEL_SIZE": _PIXEL,
        "SIZE1": EDGE,
        "SIZE2": EDGE,
        "MIN_TRUSTED_VALUE": 0,
        "SATURATED_VALUE": 65535,
        "ACTIVE_AREAS": [0, 0, EDGE, EDGE],
    }
    with h5py.File(path, "w") as file:
        for name, value in metadata.items():
            file[f"metadata/{name}"] = value
        file["data/chunk0/images"] = images
        file["data/chunk0/distance"] = np.full(len(images), _DISTANCE)
        file["data/chunk0/wavelength"] = np.full(len(images), _WAVELENGTH)


def write_nxmx(path: Path) -> None:
    """Three frames as NXmx, as detectors of Dectris write them."""
    classes = {
        "entry": "NXentry",
        "entry/data": "NXdata",
        "entry/sample": "NXsample",
        "entry/instrument": "NXinstrument",
        "entry/instrument/beam": "NXbeam",
        "entry/instrument/detector": "NXdetector",
        "entry/instrument/detector/transformations": "NXtransformations",
        "entry/instrument/detector/module": "NXdetector_module",
    }
    with h5py.File(path, "w") as file:
        for name, nx_class in classes.items():
            file.create_group(name).attrs["NX_class"] = nx_class
        file["entry/definition"] = "NXmx"
        file["entry/sample/depends_on"] = "."
        data = file["entry/data"]
        data.attrs["signal"] = "data"
        shape = (1, EDGE, EDGE)
        data.create_dataset("data", data=make_images(), chunks=shape, compression=1)
        file["entry/instrument/name"] = "beamline"
        beam = file["entry/instrument/beam"]
        beam["incident_wavelength"] = _WAVELENGTH
        beam["incident_wavelength"].attrs["units"] = "angstrom"
        detector = file["entry/instrument/detector"]
        detector["sensor_material"] = "Si"
        detector["saturation_value"] = 65535
        detector["sensor_thickness"] = 0.45
        detector["sensor_thickness"].attrs["units"] = "mm"
        detector["depends_on"] = f"{detector.name}/transformations/z"
        module = detector["module"]
        module["data_origin"], module["data_size"] = (0, 0), (EDGE, EDGE)
        centre = EDGE / 2 * _PIXEL
        for name, value, vector, depends_on, offset in (
            ("transformations/z", _DISTANCE, (0, 0, 1), ".", 0.0),
            ("module/fast_pixel_direction", _PIXEL, (-1, 0, 0), None, centre),
            ("module/slow_pixel_direction", _PIXEL, (0, -1, 0), None, centre),
        ):
            detector[name] = [value]
            detector[name].attrs.update(
                units="mm",
                transformation_type="translation",
                vector=np.array(vector, float),
                depends_on=depends_on or f"{detector.name}/transformations/z",
                offset=(offset, offset, 0.0),
                offset_units="mm",
            )


def write_cbf(path: Path) -> None:
    """A frame as a mini CBF."""
    centre = EDGE / 2 * _PIXEL
    detector = DetectorFactory.simple(
        "SENSOR_PAD",
        _DISTANCE,
        (centre, centre),
        "+x",
        "-y",
        (_PIXEL, _PIXEL),
        (EDGE, EDGE),
        trusted_range=(-1, 65535),
    )
    detector[0].set_thickness(0.32)
    detector[0].set_material("Si")
    scan = ScanFactory.make_scan((1, 1), 0.1, (0, 0), {1: 0.0})
    FormatCBFMini.as_file(
        detector,
        BeamFactory.simple(_WAVELENGTH),
        GoniometerFactory.single_axis(),
        scan,
        flumpy.from_numpy(make_images(1)[0]),
        str(path),
    )


def write_smv(path: Path) -> None:
    """A frame as SMV, as detectors of ADSC write them."""
    header = {
        "HEADER_BYTES": 512,
        "DIM": 2,
        "BYTE_ORDER": "little_endian",
        "TYPE": "unsigned_short",
        "SIZE1": EDGE,
        "SIZE2": EDGE,
        "PIXEL_SIZE": _PIXEL,
        "DISTANCE": _DISTANCE,
        "WAVELENGTH": _WAVELENGTH,
        "BEAM_CENTER_X": EDGE / 2 * _PIXEL,
        "BEAM_CENTER_Y": EDGE / 2 * _PIXEL,
        "PHI": 0.0,
        "OSC_START": 0.0,
        "OSC_RANGE": 0.0,
        "TIME": 1.0,
        "TWOTHETA": 0.0,
        "DETECTOR_SN": 900,
        "AXIS": "phi",
    }
    lines = "".join(f"{key}={value};\n" for key, value in header.items())
    pixels = make_images(1)[0].astype("<u2").tobytes()
    path.write_bytes(f"{{\n{lines}}}\n".encode().ljust(512) + pixels)


def write_expt(path: Path) -> None:
    """An experiment list of three frames beside it."""
    images = path.with_name("listed.h5")
    write_cxidb76(images)
    ExperimentListFactory.from_filenames([str(images)]).as_file(str(path))


def write_mask(path: Path) -> None:
    """A mask of DIALS for these frames."""
    mask = np.ones((EDGE, EDGE), bool)
    mask[:10] = False
    path.write_bytes(pickle.dumps((flumpy.from_numpy(mask),)))


def write_annotation(path: Path) -> None:
    """Labels of the frames of good.h5."""
    labels = ("HIT", "MISS", "MISS")
    lines = [f"good.h5 [{i}] {label}\n" for i, label in enumerate(labels, start=1)]
    path.write_text("".join(lines))


def damage_bytes(path: Path, rng: Generator) -> None:
    """Cut a file, flip bits, or write zeros, noise or brackets over some of it."""
    content = bytearray(path.read_bytes())
    # The first bytes tell most: half of the damage is there.
    size = len(content) if rng.random() < 0.5 else min(len(content), 2048)
    at = int(rng.integers(size))
    length = int(rng.integers(1, 200))
    kind = rng.choice(["cut", "empty", "flip", "zeros", "noise", "text", "double"])
    if kind == "cut":
        content = content[:at]
    elif kind == "empty":
        content = bytearray()
    elif kind == "flip":
        for place in rng.integers(size, size=int(rng.integers(1, 20))):
            content[place] ^= 1 << int(rng.integers(8))
    elif kind == "double":
        content = content * 2
    else:
        noise = {
            "zeros": bytes(length),
            "noise": rng.bytes(length),
            "text": struct.pack("c", rng.choice([b"[", b" ", b"9", b"-", b"\n"]))
            * length
            * int(rng.choice([1, 1000])),
        }
        content[at : at + length] = noise[kind]
    path.write_bytes(content)


def damage_hdf5(path: Path, rng: Generator) -> None:
    """Take an entry out of an HDF5 file, or replace it by what it can't be."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = str(rng.choice(names))
        item = file[name]
        shape, attributes = getattr(item, "shape", None), list(item.attrs)
        if attributes and rng.random() < 0.3:
            key = str(rng.choice(attributes))
            del item.attrs[key]
            if rng.random() < 0.7:
                item.attrs[key] = _odd_number(rng)
            return
        del file[name]
        kind = rng.choice(["gone", "text", "number", "numbers", "huge", "link"])
        if kind == "text":
            file[name] = "nonsense"
        elif kind == "number":
            file[name] = _odd_number(rng)
        elif kind == "numbers" and shape:
            value = np.asarray(_odd_number(rng))
            file.create_dataset(name, data=np.broadcast_to(value, shape[:3]))
        elif kind == "huge":
            sizes = (2**31, 2_000_000, 30_000, 3)
            huge = tuple(int(rng.choice(sizes)) for _ in shape or (1,))
            chunks = tuple(min(n, 64) for n in huge)
            file.create_dataset(name, huge, "i4", chunks=chunks)
        elif kind == "link":
            file[name] = h5py.ExternalLink("missing.h5", "/data")


def _odd_number(rng: Generator) -> float | int:
    return ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]


def damage_json(path: Path, rng: Generator) -> None:
    """Take an entry out of a JSON file, or put something odd in its place."""
    content = json.loads(path.read_text())
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.9:
            place = place[key]
            continue
        if rng.random() < 0.3:
            del place[key]
        else:
            place[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        break
    path.write_text(json.dumps(content))


def damage_header(path: Path, rng: Generator) -> None:
    """Put an odd number or word in the place of one in the header of an image."""
    content = path.read_bytes()
    head, tail = content[:1500], content[1500:]
    words = head.split(b" " if path.suffix == ".cbf" else b"=")
    at = int(rng.integers(1, len(words)))
    odd = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    words[at] = f"{odd}"[:1000].encode() + words[at][-1:]
    joined = b" " if path.suffix == ".cbf" else b"="
    path.write_bytes(joined.join(words) + tail)


Write = Callable[[Path], None]
Damage = Callable[[Path, Generator], None]

# Images: how each kind is written, and how it is damaged.
IMAGES: dict[str, tuple[Write, tuple[Damage, ...]]] = {
    "cxidb76.h5": (write_cxidb76, (damage_bytes, damage_hdf5, damage_hdf5)),
    "nxmx.h5": (write_nxmx, (damage_bytes, damage_hdf5, damage_hdf5)),
    "shot_0001.cbf": (write_cbf, (damage_bytes, damage_header)),
    "shot_001.img": (write_smv, (damage_bytes, damage_header)),
    "list.expt": (write_expt, (damage_bytes, damage_json, damage_json)),
}
