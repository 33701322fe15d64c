"""Packaging: top-level folders are mapped into the package, entry points for DIALS."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Folders that stand beside the package in the checkout and become parts of it when it
# is installed. Named one by one: found automatically, they would land in site-packages.
MAPPED_FOLDERS = {
    f"dials_cnn_screen.{folder}": folder
    for folder in ("command_line", "format_classes", "phil")
}

# What the programs need; dials, dxtbx and cctbx are not on PyPI and have to be there.
RUN_REQUIRES = [
    "numpy",  # all arithmetic outside the network
    "torch",  # the network
    "safetensors",  # model files, which can be opened without running code (no pickle)
    "numba",  # the fast preprocessing on CPUs
    "h5py",  # simulated shots, and the format classes
    "tqdm",  # progress bars
    "jinja2",  # the HTML report
    "matplotlib",  # figures in the report
    "scipy",  # the exact limit of an audit, connected pixels; DIALS needs it too
    "filelock",  # two people at one label file; torch needs it too
]

# Format class: its parents. dxtbx asks a class whether it understands a file only when
# one of its parents does, and prefers it to the parent.
FORMATS = {
    "FormatHDF5CXIDB76": "FormatHDF5,FormatStill",
    "FormatHDF5CXIDB76CSPAD": "FormatHDF5CXIDB76",
    "FormatHDF5CXIDB76Rayonix": "FormatHDF5CXIDB76",
}


def read_version() -> str:
    """Return the version, without importing the package."""
    text = (HERE / "dials_cnn_screen" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def list_programs() -> dict[str, str]:
    """Map each program's name to its function.

    Every .py in command_line is a program. The line that names it for libtbx is the one
    place where its name is given.
    """
    programs = {}
    for file in sorted((HERE / "command_line").glob("[!_]*.py")):
        text = file.read_text(encoding="utf-8")
        for name in re.findall(
            r"^# LIBTBX_SET_DISPATCHER_NAME (\S+)$", text, re.MULTILINE
        ):
            programs[name] = f"dials_cnn_screen.command_line.{file.stem}:run"
    return programs


ENTRY_POINTS = {
    "console_scripts": [f"{name} = {run}" for name, run in list_programs().items()],
    "dxtbx.format": [
        f"{name}:{parents} = dials_cnn_screen.format_classes.{name}:{name}"
        for name, parents in FORMATS.items()
    ],
}

# libtbx_refresh.py and .ci/interpreter.py run this file under another name, for what
# stands above, with or without setuptools.
if __name__ == "__main__":
    from setuptools import find_packages, setup

    setup(
        name="dials_cnn_screen",
        version=read_version(),
        description="Screen serial-crystallography stills as Hit, Maybe or Miss with a "
        "neural network, in DIALS",
        license="BSD-3-Clause",
        python_requires=">=3.10",
        packages=[
            *find_packages(include=["dials_cnn_screen", "dials_cnn_screen.*"]),
            *MAPPED_FOLDERS,
        ],
        package_dir=MAPPED_FOLDERS,
        package_data={
            "dials_cnn_screen": ["py.typed", "models/*.safetensors", "models/*.md"],
            "dials_cnn_screen.phil": ["*.phil"],
            "": ["*.html", "templates/*.html"],
        },
        zip_safe=False,
        entry_points=ENTRY_POINTS,
        # No install_requires, on purpose. The dxtbx of DIALS 3.12 loads format classes
        # through pkg_resources, which first checks all requirements of the package they
        # come from. One that it can't see breaks the reading of every image of that
        # kind, for every DIALS program: Debian's h5py has another name there, and torch
        # asks for a newer setuptools than DIALS 3.12 runs with. `.ci/setup` installs
        # RUN_REQUIRES, and so does `pip install .[all]`.
        extras_require={
            "all": RUN_REQUIRES,
            "mpi": ["mpi4py"],  # mp.method=mpi
            # HDF5 files that Dectris detectors compress (bitshuffle, LZ4), where DIALS
            # has no such filter yet; dectris-compression is quicker, and for GPUs
            "hdf5": ["hdf5plugin", "dectris-compression"],
            # dials.cnn_live: streams of ZeroMQ (pyzmq), messages of DECTRIS's Stream V2
            # (cbor2), and what detectors compress: DECTRIS's own library, and LZ4
            # without a header, which Stream V1 has
            "live": ["pyzmq", "cbor2", "dectris-compression", "lz4"],
            # dials.cnn_explain: the map of images that are alike, and groups of pixels
            "explain": ["scikit-learn", "threadpoolctl"],
            # The kernels for GPUs are tested without one by Triton's interpreter.
            "test": ["pytest", "triton; sys_platform == 'linux'"],
            "lint": ["ruff", "mypy"],
        },
    )
