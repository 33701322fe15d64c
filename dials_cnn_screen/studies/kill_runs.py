"""Kill runs of dials.cnn_screen at random moments, resume them, compare the outputs.

::

  python -m dials_cnn_screen.studies.kill_runs run_200.h5 --kills 20 --nproc 2

Each run is killed (SIGKILL), or with --worker one of its processes is. The resumed run
has to write the same cnn_screen.json and hits.expt as one that was not killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dials_cnn_screen.util.json_lines import read_json_lines

_PROGRAM = "from dials_cnn_screen.command_line.cnn_screen import run; run()"
_OUTPUTS = ("cnn_screen.json", "hits.expt")


def main() -> None:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--model", default="default")
    parser.add_argument("--worker", action="store_true", help="kill a worker process")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    arguments = [os.path.abspath(path) for path in options.images]
    arguments += [f"model={options.model}", f"mp.nproc={options.nproc}", "html=None"]
    with tempfile.TemporaryDirectory() as folder:
        _start(arguments, folder).wait()
        expected, n_images = _outputs(folder), _count(folder)
    rng = random.Random(options.seed)
    equal = 0
    for _ in range(options.kills):
        with tempfile.TemporaryDirectory() as folder:
            n = _kill(arguments, folder, rng.randrange(n_images), options.worker)
            _start([*arguments, "resume=True"], folder).wait()
            same = _outputs(folder) == expected
        equal += same
        print(
            f"killed after {n} images: {'equal' if same else 'DIFFERENT'}", flush=True
        )
    print(f"{equal} of {options.kills} resumed runs equal the unbroken one")


def _start(arguments: list[str], folder: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(arguments: list[str], folder: str, after: int, worker: bool) -> int:
    """Kill a run when its record has so many images; how many it has afterwards."""
    program = _start(arguments, folder)
    while _count(folder) < after and program.poll() is None:
        time.sleep(0.001)
    if program.poll() is None:
        children = f"/proc/{program.pid}/task/{program.pid}/children"
        pids = [int(pid) for pid in Path(children).read_text().split()]
        os.kill(pids[0] if worker and pids else program.pid, signal.SIGKILL)
        program.wait()
    return _count(folder)


def _count(folder: str) -> int:
    """The number of images in the record of a run."""
    record = Path(folder) / "cnn_screen.jsonl"
    return max(0, len(read_json_lines(record).lines) - 1) if record.exists() else 0


def _outputs(folder: str) -> list[bytes]:
    return [Path(folder, name).read_bytes() for name in _OUTPUTS]


if __name__ == "__main__":
    main()
