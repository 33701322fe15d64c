"""Where the studies have their shots from: simulation, or the deposited data.

DIALS is imported where it is used, as networks are trained without it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tqdm import tqdm

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import Job, plan_run, simulate_run
from dials_cnn_screen.studies.simulated_shots import simulate_prepared

if TYPE_CHECKING:
    from dials_cnn_screen.training.preparing import Labelled

SEED = 51_000  # of the shots; one more for each experiment


class Source(Protocol):
    """Labelled shots of the five experiments."""

    def __str__(self) -> str:
        """What they are, in words."""

    def count(self, experiment: str) -> int:
        """How many there are."""

    def prepare(
        self, experiment: str, images: dict[str, np.ndarray], folder: Path, nproc: int
    ) -> np.ndarray:
        """Prepare them all into images, float16 (n, edge, edge), by contrast.

        folder: has room for files. Returns the labels, int64 (n,).
        """

    def count_spots(
        self, experiment: str, chosen: np.ndarray, folder: Path, nproc: int
    ) -> np.ndarray:
        """Spots that dials.find_spots finds on the chosen shots, int (m,).

        With the parameters of Table 2; none where it gives up.
        """


@dataclass(frozen=True)
class Simulated:
    """So many simulated shots, in the deposited shares of Hit, Maybe and Miss."""

    n: int

    def __str__(self) -> str:
        return f"{self.n} simulated shots of each experiment"

    def count(self, experiment: str) -> int:
        return self.n

    def prepare(
        self, experiment: str, images: dict[str, np.ndarray], folder: Path, nproc: int
    ) -> np.ndarray:
        labels = np.zeros(self.n, dtype=np.int64)
        ways = [Preprocessing(contrast=contrast) for contrast in images]
        shots = simulate_prepared(self._jobs(experiment), ways, nproc)
        bar = tqdm(shots, f"{experiment}: simulating", total=self.n, disable=None)
        for i, (frames, label) in enumerate(bar):
            labels[i] = label
            for target, frame in zip(images.values(), frames, strict=True):
                target[i] = frame
        return labels

    def count_spots(
        self, experiment: str, chosen: np.ndarray, folder: Path, nproc: int
    ) -> np.ndarray:
        from dials_cnn_screen.evaluation.spotfinding import (
            find_on_stills,
            open_stills,
            preset,
        )
        from dials_cnn_screen.images.stills import list_stills

        jobs = self._jobs(experiment)
        shots = simulate_run([jobs[i] for i in chosen], nproc)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            path = Path(temporary) / f"{EXPERIMENTS[experiment].run}_{len(chosen)}.h5"
            bar = partial(tqdm, total=len(chosen), disable=None)
            write_shots(
                path,
                EXPERIMENTS[experiment],
                bar(shots, f"{experiment}: simulating for dials.find_spots"),
                len(chosen),
            )
            experiments = open_stills(path)
            found = find_on_stills(
                experiments, list_stills(experiments), preset(experiment), nproc
            )
            counts = [f.n_spots or 0 for f in bar(found, f"{experiment}: spots")]
        return np.array(counts)

    def _jobs(self, experiment: str) -> list[Job]:
        seed = SEED + list(EXPERIMENTS).index(experiment)
        return plan_run(experiment, self.n, EXPERIMENTS[experiment].images, seed)


@dataclass(frozen=True)
class Deposited:
    """CXIDB entry 76, with the expert's labels and the deposited counts of spots.

    folder: has a folder for each experiment, such as L498, with r0027_2000.h5,
    expert_annotation.txt and dials_annotation.txt in it. The methods raise ValueError,
    with the file, for what is missing or can't be read.
    """

    folder: Path

    def __str__(self) -> str:
        return "the deposited shots of CXIDB-76 and the expert's labels"

    def count(self, experiment: str) -> int:
        return len(self._labelled(experiment))

    def prepare(
        self, experiment: str, images: dict[str, np.ndarray], folder: Path, nproc: int
    ) -> np.ndarray:
        from dials_cnn_screen.training.preparing import prepare_stills

        labelled = self._labelled(experiment)
        for contrast, target in images.items():
            title = f"{experiment}: preparing, contrast {contrast}"
            bar = partial(tqdm, desc=title, total=len(labelled), disable=None)
            way = Preprocessing(contrast=contrast)
            data = prepare_stills(labelled, way, nproc, folder, bar)
            target[:] = data.images
        return data.labels

    def count_spots(
        self, experiment: str, chosen: np.ndarray, folder: Path, nproc: int
    ) -> np.ndarray:
        counts = read_spot_counts(self._file(experiment, "dials_annotation.txt"))
        stills = [still for still, _ in self._labelled(experiment)]
        return np.array([counts.by_frame.get(stills[i].frame, 0) for i in chosen])

    def _labelled(self, experiment: str) -> Labelled:
        from dials_cnn_screen.evaluation.spotfinding import open_stills
        from dials_cnn_screen.images.stills import list_stills
        from dials_cnn_screen.labels.matching import match_labels

        images = self._file(experiment, f"{EXPERIMENTS[experiment].run}_2000.h5")
        labels = self._file(experiment, "expert_annotation.txt")
        return match_labels(list_stills(open_stills(images)), [labels])

    def _file(self, experiment: str, name: str) -> Path:
        path = self.folder / experiment / name
        if not path.is_file():
            raise ValueError(
                f"there is no file '{path}'; the folder of CXIDB-76 has {experiment}/ "
                f"with {EXPERIMENTS[experiment].run}_2000.h5, expert_annotation.txt "
                "and dials_annotation.txt"
            )
        return path


def cut(experiment: str) -> int:
    """Spots from which on the paper takes a still for a hit (Fig. 7)."""
    from dials_cnn_screen.evaluation.spotfinding import preset

    return preset(experiment).min_spots
