"""How long preparing and classifying a frame take on one core.

Run as ``python -m dials_cnn_screen.studies.benchmark``: a 1920 x 1920 int32 frame in
memory to a 720 x 720 LCN image, by the reference and by the CPU kernel; the same frame
as float32 to spot candidates, and these through a network with untrained weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.ke2018 import preprocessing, preprocessing_cpu
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.models.registry import find_architecture

ROUNDS = 50  # by hand


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time of work, after a first run that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    """Print the times, of images without and with masked pixels, and of candidates."""
    rng = np.random.default_rng(0)
    data = rng.poisson(60, (1920, 1920)).astype(np.int32)
    mask = np.ones(data.shape, dtype=bool)
    masked = mask.copy()
    masked[905:1015, 905:1015] = False
    beam_centre = (960.0, 960.0)

    def prepare(
        module: ModuleType, used: NDArray[np.bool_]
    ) -> Callable[[], NDArray[np.float32]]:
        return lambda: module.prepare(data, used, beam_centre, Preprocessing())

    for title, used in (("no pixel masked", mask), ("hole masked", masked)):
        slow = milliseconds(prepare(preprocessing, used), rounds=5)
        fast = milliseconds(prepare(preprocessing_cpu, used))
        print(f"{title}: reference {slow:.1f} ms, CPU kernel {fast:.2f} ms")

    torch.set_num_threads(1)
    spots = find_architecture("spots")
    pipeline = spots.pipeline(spots.network(), spots.preparation(), "cpu")
    frame = Frame(data.astype(np.float32), masked, beam_centre)
    candidates = pipeline.prepare(frame)
    prepare_ms = milliseconds(lambda: pipeline.prepare(frame))
    classify_ms = milliseconds(lambda: pipeline.run(candidates))
    print(
        f"{len(candidates.z)} spot candidates: preparing {prepare_ms:.2f} ms, "
        f"classifying {classify_ms:.2f} ms"
    )


if __name__ == "__main__":
    main()
