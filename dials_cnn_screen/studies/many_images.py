"""Runs of many small images: seconds, memory and size of outputs by their number.

Run as ``python -m dials_cnn_screen.studies.many_images FOLDER 2000 20000 100000``, with
room for 33 kB an image in FOLDER. The images are 128 x 128 pixels of noise, every tenth
with 25 spots, in one file of the layout of CXIDB-76. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

_EDGE, _DIFFERENT = 128, 100
_PROGRAM = "from dials_cnn_screen.command_line.cnn_screen import run; run()"


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
    for image in images[::10]:
        slow, fast = rng.integers(4, _EDGE - 4, (2, 25))
        image[slow, fast] += 200
    centre = 0.1 * _EDGE / 2
    metadata = {
        "idh5_version": np.bytes_(b"idh5_v1.0"),
        "BEAM_CENTER_X": centre,
        "BEAM_CENTER_Y": centre,
        "PIXEL_SIZE": 0.1,
        "SIZE1": _EDGE,
        "SIZE2": _EDGE,
        "MIN_TRUSTED_VALUE": 0,
        "SATURATED_VALUE": 60000,
        "ACTIVE_AREAS": np.array([0, 0, _EDGE, _EDGE]),
    }
    with h5py.File(path, "w") as file:
        for name, value in metadata.items():
            file[f"metadata/{name}"] = value
        chunk = file.create_group("data/chunk00")
        shape = (n, _EDGE, _EDGE)
        data = chunk.create_dataset("images", shape, np.uint16, chunks=(1, *shape[1:]))
        for i in range(0, n, _DIFFERENT):
            data[i : i + _DIFFERENT] = images[: n - i]
        chunk["distance"], chunk["wavelength"] = np.full(n, 100.0), np.full(n, 1.3)
        chunk["timestamp"] = np.arange(n) / 120


def measure(path: Path, n: int, nproc: int) -> str:
    """A row of the table: a run of dials.cnn_screen on the images of a file."""
    command = [sys.executable, "-c", _PROGRAM, str(path), f"mp.nproc={nproc}"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        program = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(program.pid, 0)
        seconds = time.monotonic() - start
        if code := os.waitstatus_to_exitcode(status):
            sys.exit(f"dials.cnn_screen ended with status {code}")
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    processor = usage.ru_utime + usage.ru_stime
    memory = usage.ru_maxrss / 1024
    return (
        f"| {n} | {seconds:.0f} | {processor:.0f} | {memory:.0f} | {size / 1e6:.0f} |"
    )


if __name__ == "__main__":
    main()
