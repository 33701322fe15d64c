"""Simulated shots in the HDF5 layout of CXIDB-76, with the truth beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.simulation.detector import Detector
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.util.files import check_file_room

if TYPE_CHECKING:
    import h5py

# Shots per second of the LCLS, for the timestamps.
_SHOT_RATE = 120.0


def write_shots(
    path: str | Path, experiment: Experiment, shots: Iterable[Shot], n_shots: int
) -> None:
    """Write shots one by one, images uncompressed as in the deposition.

    Beside the entries of the layout, /simulation/visible_spots, (m, 3), has the truth:
    the image (from 0), slow and fast (pixels) of each visible spot.

    Args:
        path: Of the file to write.
        experiment: That the shots are of.
        shots: As they are made; they need not fit into memory together.
        n_shots: How many there are.

    Raises:
        ValueError: There is no room for them.
    """
    # Not above: dials.cnn_simulate -h needs no HDF5.
    import h5py

    detector = experiment.detector
    slow, fast = detector.shape
    check_file_room(path, n_shots * slow * fast * np.dtype(np.int32).itemsize)
    with h5py.File(path, "w") as file:
        write_metadata(file, detector)
        chunk = file.create_group("data/chunk00")
        images = chunk.create_dataset(
            "images", (n_shots, slow, fast), np.int32, chunks=(1, slow, fast)
        )
        distance = np.zeros(n_shots)
        wavelength = np.zeros(n_shots)
        visible = []
        for i, shot in enumerate(shots):
            images[i] = shot.image
            distance[i], wavelength[i] = shot.distance, shot.wavelength
            visible.append(np.insert(shot.visible, 0, i, axis=1))
        chunk["distance"], chunk["wavelength"] = distance, wavelength
        chunk["timestamp"] = np.arange(n_shots) / _SHOT_RATE
        file["simulation/visible_spots"] = np.concatenate(visible)


def write_metadata(file: h5py.File, detector: Detector) -> None:
    """Write what the layout has of the detector."""
    slow, fast = detector.shape
    areas = detector.active_areas or ((0, 0, slow, fast),)
    metadata = {
        "idh5_version": np.bytes_(b"idh5_v1.0"),
        "BEAM_CENTER_X": detector.beam_centre[1] * detector.pixel_size,
        "BEAM_CENTER_Y": detector.beam_centre[0] * detector.pixel_size,
        "PIXEL_SIZE": detector.pixel_size,
        "SIZE1": fast,
        "SIZE2": slow,
        "MIN_TRUSTED_VALUE": detector.min_trusted,
        "SATURATED_VALUE": detector.saturation,
        "ACTIVE_AREAS": np.ravel(areas),
    }
    for name, value in metadata.items():
        file[f"metadata/{name}"] = value
