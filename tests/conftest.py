"""Fixtures shared by several tests: files of known content in known layouts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import pytest

# slow1, fast1, slow2, fast2: four tiles of 28 x 28 pixels in an image of 60 x 60.
FOUR_TILES = [1, 1, 29, 29, 1, 31, 29, 59, 31, 1, 59, 29, 31, 31, 59, 59]


def _write_cxidb76(
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


@pytest.fixture
def write_cxidb76():
    """The function write(path, images, *, kind="CSPAD"|"Rayonix", ...) -> path."""
    return _write_cxidb76


@pytest.fixture
def real_images() -> Path:
    """The folder of real detector images, which is beside the checkout or missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "real_images"
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}")
    return folder


@pytest.fixture
def installed_formats() -> None:
    """Skip unless dxtbx sees the format classes, that is unless they are installed."""
    names = {e.name.split(":")[0] for e in metadata.entry_points(group="dxtbx.format")}
    if "FormatHDF5CXIDB76" not in names:
        pytest.skip("dials_cnn_screen is not installed: no dxtbx.format entry point")
