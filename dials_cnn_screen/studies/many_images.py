"""Runs of many small images: seconds, memory and size of outputs by their number.

Run as ``python -m dials_cnn_screen.studies.many_images FOLDER 2000 20000 100000``, with
room for 33 kB an image in FOLDER. The images are 128 x 128 pixels of noise, every tenth
with 25 spots, in one file of the layout of CXIDB-76. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np

from dials_cnn_screen.simulation.cxidb76 import write_metadata
from dials_cnn_screen.simulation.detector import Detector
from dials_cnn_screen.studies.commands import run_command

_EDGE, _DIFFERENT = 128, 100
_DETECTOR = Detector(
    shape=(_EDGE, _EDGE),
    pixel_size=0.1,
    beam_centre=(_EDGE / 2, _EDGE / 2),
    gain=1.0,
    dark_noise=0.0,
    pedestal=0.0,
    saturation=60000,
    min_trusted=0,
)


def main() -> None:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("numbers", type=int, nargs="+")
    parser.add_argument("--nproc", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| images | s | CPU s | MB of memory | MB of outputs |")
    print("|---|---|---|---|---|")
    for n in options.numbers:
        path = options.folder.resolve() / f"small_{n}.h5"
        write_images(path, n)
        print(measure(path, n, options.nproc), flush=True)
        path.unlink()


def write_images(path: Path, n: int) -> None:
    """Write n images, uint16; the same hundred again and again."""
    rng = np.random.default_rng(0)
    images = rng.poisson(8, (_DIFFERENT, _EDGE, _EDGE)).astype(np.uint16)
    spot = 50 * np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.uint16)
    for image in images[::10]:
        for slow, fast in rng.integers(4, _EDGE - 4, (25, 2)):
            image[slow - 1 : slow + 2, fast - 1 : fast + 2] += spot
    with h5py.File(path, "w") as file:
        write_metadata(file, _DETECTOR)
        chunk = file.create_group("data/chunk00")
        shape = (n, _EDGE, _EDGE)
        data = chunk.create_dataset("images", shape, np.uint16, chunks=(1, *shape[1:]))
        for i in range(0, n, _DIFFERENT):
            data[i : i + _DIFFERENT] = images[: n - i]
        chunk["distance"], chunk["wavelength"] = np.full(n, 100.0), np.full(n, 1.3)
        chunk["timestamp"] = np.arange(n) / 120


def measure(path: Path, n: int, nproc: int) -> str:
    """A row of the table: a run of dials.cnn_screen on the images of a file.

    Raises:
        ValueError: The run failed.
    """
    command = ["dials.cnn_screen", str(path), f"mp.nproc={nproc}"]
    with tempfile.TemporaryDirectory() as folder:
        cost = run_command(command, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return (
        f"| {n} | {cost.clock:.0f} | {cost.processor:.0f} | {cost.memory:.0f} "
        f"| {size / 1e6:.0f} |"
    )


if __name__ == "__main__":
    main()
