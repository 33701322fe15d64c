"""Commands of DIALS and of this package, and what each run of one costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Runs a command and writes its CPU seconds and peak memory (MB) to standard error. The
# peak of a process is that of its parent at the least, so the parent has to be small.
_MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
sys.exit(status != 0)
"""


@dataclass(frozen=True)
class Cost:
    """What a run took; of several, together.

    Attributes:
        clock: s.
        processor: CPU s.
        memory: Peak, MB.
    """

    clock: float
    processor: float
    memory: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.clock + other.clock,
            self.processor + other.processor,
            max(self.memory, other.memory),
        )


def run_command(command: Sequence[str], folder: Path | None = None) -> Cost:
    """Run a command, on one thread for each of its processes.

    Args:
        command: The program and its arguments.
        folder: To run it in; None: the current one.

    Raises:
        ValueError: The command failed.
    """
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _MEASURE, *command],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DIALS_NOBANNER": "1"},
        cwd=folder,
        check=False,
    )
    clock = time.monotonic() - start
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip()[-200:]
        raise ValueError(f"{' '.join(command)} failed: {last}")
    processor, memory = map(float, done.stderr.split())
    return Cost(clock, processor, memory)
