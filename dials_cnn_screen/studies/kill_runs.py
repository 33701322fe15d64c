"""Kill runs of dials.cnn_screen at random moments, resume them, compare the outputs.

::

  python -m dials_cnn_screen.studies.kill_runs run_200.h5 --kills 20 --nproc 2

Each run is killed (SIGKILL), or with --worker one of its processes is; with --ranks 3
it runs on as many ranks of MPI, of which one is killed. The resumed run has to write
the same cnn_screen.json and hits.expt as one that was not killed.
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
    parser.add_argument("--ranks", type=int, default=0, help="of MPI; kill one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    arguments = [os.path.abspath(path) for path in options.images]
    arguments += [f"model={options.model}", f"mp.nproc={options.nproc}", "html=None"]
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    if options.ranks:
        mpirun = ["mpirun", "--oversubscribe", "-n", str(options.ranks)]
        command = [*mpirun, *command, "mp.method=mpi"]
    with tempfile.TemporaryDirectory() as folder:
        if status := _start(command, folder).wait():
            sys.exit(f"the run that is not killed ended with status {status}")
        expected, n_images = _outputs(folder), _count(folder)
    rng = random.Random(options.seed)
    equal = 0
    for _ in range(options.kills):
        with tempfile.TemporaryDirectory() as folder:
            one_process = options.worker or options.ranks > 0
            n = _kill(command, folder, rng.randrange(n_images), one_process)
            _start([*command, "resume=True"], folder).wait()
            same = _outputs(folder) == expected
        equal += same
        print(
            f"killed after {n} images: {'equal' if same else 'DIFFERENT'}", flush=True
        )
    print(f"{equal} of {options.kills} resumed runs equal the unbroken one")


def _start(command: list[str], folder: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(command: list[str], folder: str, after: int, one_process: bool) -> int:
    """Kill a run, or one of its processes, when its record has so many images.

    Returns:
        How many it has afterwards.
    """
    program = _start(command, folder)
    while _count(folder) < after and program.poll() is None:
        time.sleep(0.001)
    if program.poll() is None:
        threads = Path(f"/proc/{program.pid}/task").glob("*/children")
        pids = [int(pid) for thread in threads for pid in thread.read_text().split()]
        victim = pids[after % len(pids)] if one_process and pids else program.pid
        os.kill(victim, signal.SIGKILL)
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
