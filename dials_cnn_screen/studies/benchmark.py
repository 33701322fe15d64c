"""How long preparing and classifying a frame take on one core.

Run as ``python -m dials_cnn_screen.studies.benchmark``: a 1920 x 1920 int32 frame in
memory to a 720 x 720 LCN array, by the reference and by the CPU kernel; the same frame
as float32 to spot candidates, and these through a network with untrained weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

from dials_cnn_screen.ke2018 import preprocessing
from dials_cnn_screen.ke2018 import preprocessing_cpu as cpu
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.spots import candidates_cpu as cpu_candidates
from dials_cnn_screen.spots.candidates import Candidates, CandidateSearch
from dials_cnn_screen.spots.network import SpotNetwork, SpotNetworkConfig, batch_of_one

ROUNDS = 50


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

    def prepare(module: ModuleType, used: np.ndarray) -> Callable[[], object]:
        return lambda: module.prepare(data, used, (960.0, 960.0), Preprocessing())

    for title, used in (("no pixel masked", mask), ("hole masked", masked)):
        slow = milliseconds(prepare(preprocessing, used), rounds=5)
        fast = milliseconds(prepare(cpu, used))
        print(f"{title}: reference {slow:.1f} ms, CPU kernel {fast:.2f} ms")

    torch.set_num_threads(1)
    network = SpotNetwork(SpotNetworkConfig()).eval()
    frame = data.astype(np.float32)

    def find() -> Candidates:
        return cpu_candidates.find_candidates(
            frame, masked, (960.0, 960.0), CandidateSearch()
        )

    def classify(candidates: Candidates) -> None:
        with torch.inference_mode():
            network(batch_of_one(candidates))

    found = find()
    prepare_ms, classify_ms = milliseconds(find), milliseconds(lambda: classify(found))
    print(
        f"{len(found.z)} spot candidates: preparing {prepare_ms:.2f} ms, "
        f"classifying {classify_ms:.2f} ms"
    )


if __name__ == "__main__":
    main()
