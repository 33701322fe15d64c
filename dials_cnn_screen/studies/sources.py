"""Where the shots of the paper's tables come from: simulation, or the deposited data.

DIALS is imported where it is used, as networks are trained without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import plan_run, simulate_run
from dials_cnn_screen.studies.simulated_shots import NetworkInput, simulate_prepared
from dials_cnn_screen.util.progress import track

if TYPE_CHECKING:
    from dials_cnn_screen.images.stills import Still

ARCHITECTURE = "ke2018"
SEED = 51_000  # of the shots, one more for each experiment


class Source(Protocol):
    """Labelled shots of the five experiments."""

    def __str__(self) -> str:
        """What shots they are, as people read it."""

    def count(self, experiment: str) -> int:
        """The number of shots of an experiment."""

    def prepare(
        self,
        experiment: str,
        images: dict[str, NDArray[np.float16]],
        folder: Path,
        nproc: int,
    ) -> NDArray[np.int64]:
        """Prepare all shots of an experiment.

        Args:
            experiment: Of Table 1.
            images: Takes them: (n, edge, edge) by contrast, as in Dataset.
            folder: Has room for files.
            nproc: Number of processes.

        Returns:
            Labels, int64 (n,).
        """

    def count_spots(
        self, experiment: str, chosen: NDArray[np.int64], folder: Path, nproc: int
    ) -> NDArray[np.int64]:
        """Spots that dials.find_spots finds with the parameters of Table 2.

        Args:
            experiment: Of Table 1.
            chosen: Indices of m shots.
            folder: Has room for files.
            nproc: Number of processes.

        Returns:
            int64 (m,), 0 where dials.find_spots gives up.
        """


@dataclass(frozen=True)
class Simulated:
    """Simulated shots, in the deposited shares of Hit, Maybe and Miss.

    Attributes:
        n: Their number for each experiment.
    """

    n: int

    def __str__(self) -> str:
        return f"{self.n} simulated shots of each experiment"

    def count(self, experiment: str) -> int:
        """The same for all."""
        return self.n

    def prepare(
        self,
        experiment: str,
        images: dict[str, NDArray[np.float16]],
        folder: Path,
        nproc: int,
    ) -> NDArray[np.int64]:
        """Simulate each shot once, and prepare it in all contrasts."""
        labels = np.zeros(self.n, dtype=np.int64)
        inputs = [
            NetworkInput(ARCHITECTURE, Preprocessing(contrast=contrast))
            for contrast in images
        ]
        shots = simulate_prepared(self._jobs(experiment), inputs, nproc)
        title = f"{experiment}: simulating"
        for i, shot in enumerate(track(shots, title, self.n, "shot")):
            labels[i] = shot.label
            for target, image in zip(images.values(), shot.inputs, strict=True):
                target[i] = image
        return labels

    def count_spots(
        self, experiment: str, chosen: NDArray[np.int64], folder: Path, nproc: int
    ) -> NDArray[np.int64]:
        """Simulate the shots again into a file, and run dials.find_spots on it."""
        from dials_cnn_screen.evaluation.spotfinding import (
            find_on_stills,
            open_stills,
            preset,
        )
        from dials_cnn_screen.images.stills import list_stills

        n = len(chosen)
        jobs = self._jobs(experiment)
        shots = simulate_run([jobs[i] for i in chosen], nproc)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            path = Path(temporary) / f"{EXPERIMENTS[experiment].run}_{n}.h5"
            title = f"{experiment}: simulating for dials.find_spots"
            write_shots(
                path, EXPERIMENTS[experiment], track(shots, title, n, "shot"), n
            )
            experiments = open_stills(path)
            found = find_on_stills(
                experiments, list_stills(experiments), preset(experiment), nproc
            )
            title = f"{experiment}: finding spots"
            counts = [result.n_spots or 0 for result in track(found, title, n)]
        return np.array(counts)

    def _jobs(self, experiment: str) -> list[Job]:
        seed = SEED + list(EXPERIMENTS).index(experiment)
        return plan_run(experiment, self.n, EXPERIMENTS[experiment].images, seed)


@dataclass(frozen=True)
class Deposited:
    """CXIDB entry 76, with the expert's labels and the deposited counts of spots.

    The methods raise ValueError, with the file, for what is missing or can't be read.

    Attributes:
        folder: Has a folder for each experiment, such as L498, with r0027_2000.h5,
            expert_annotation.txt and dials_annotation.txt in it.
    """

    folder: Path

    def __str__(self) -> str:
        return "the deposited shots of CXIDB-76 and the expert's labels"

    def count(self, experiment: str) -> int:
        """The number of labelled shots."""
        return len(self._labelled(experiment)[0])

    def prepare(
        self,
        experiment: str,
        images: dict[str, NDArray[np.float16]],
        folder: Path,
        nproc: int,
    ) -> NDArray[np.int64]:
        """Read the labelled shots and prepare them, contrast after contrast."""
        from dials_cnn_screen.training.preparing import prepare_stills

        stills, labels = self._labelled(experiment)
        for contrast, target in images.items():
            data = prepare_stills(
                stills,
                labels,
                find_architecture(ARCHITECTURE),
                Preprocessing(contrast=contrast),
                nproc,
                folder,
                f"{experiment}: preparing, contrast {contrast}",
            )
            (target[:],) = data.arrays()
        return np.array(labels, dtype=np.int64)

    def count_spots(
        self, experiment: str, chosen: NDArray[np.int64], folder: Path, nproc: int
    ) -> NDArray[np.int64]:
        """The deposited counts; an image without a line has no spots."""
        counts = read_spot_counts(self._file(experiment, "dials_annotation.txt"))
        stills, _ = self._labelled(experiment)
        return np.array(
            [counts.by_number.get(stills[i].name.number, 0) for i in chosen]
        )

    def _labelled(self, experiment: str) -> tuple[Sequence[Still], Sequence[Label]]:
        from dials_cnn_screen.evaluation.spotfinding import open_stills
        from dials_cnn_screen.images.stills import list_stills

        images = self._file(experiment, f"{EXPERIMENTS[experiment].run}_2000.h5")
        labels = self._file(experiment, "expert_annotation.txt")
        stills = list_stills(open_stills(images))
        labelled = match_labels([still.name for still in stills], [labels])
        return [stills[i] for i in labelled], list(labelled.values())

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

    # All presets of experiments have a cut.
    return preset(experiment).min_spots  # type: ignore[return-value]
