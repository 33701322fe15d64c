"""The shots of the paper's tables, prepared once in every contrast, and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.ke2018.preprocessing import CONTRASTS, Preprocessing
from dials_cnn_screen.ke2018.training_set import Dataset, allocate_images
from dials_cnn_screen.labels.splits import Splits, check_splits, split_at_random
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.sources import Source
from dials_cnn_screen.util.files import check_room, replacing

RAYONIX = ("LO19", "LN83", "LN84")  # experiments with this detector (Table 1)
FRACTIONS = (0.5, 0.2, 0.3)  # section 3.4
SEED = 1  # of all that is drawn from the shots


@dataclass(frozen=True, eq=False)
class Shots:
    """Shots of all experiments, and what is known of them.

    Attributes:
        data: All shots by contrast, with the same labels.
        splits: Of each experiment, indices into data.
        n_spots: int (m,), spots found on the test split of each experiment.
    """

    data: dict[str, Dataset]
    splits: dict[str, Splits]
    n_spots: dict[str, NDArray[np.int64]]

    def labels(self, experiment: str) -> NDArray[np.int64]:
        """Labels of the test split of an experiment, (m,)."""
        return self.data[CONTRASTS[0]].labels[self.splits[experiment].test]

    def splits_of(self, group: str, n: int | None = None) -> Splits:
        """The splits of a group of experiments together.

        Args:
            group: As in experiments_of.
            n: Number of training images; None: all. They are drawn from each class
                alike, and so is as much smaller a validation split: the paper's
                reduced sets are split too (Table 7).
        """
        together = [self.splits[name] for name in experiments_of(group)]
        whole = Splits(*(np.concatenate(s) for s in zip(*together, strict=True)))
        if n is None:
            return whole
        share = n / len(whole.training)
        labels = self.data[CONTRASTS[0]].labels
        training, validation = (
            split[split_at_random(labels[split], (share, 1 - share, 0), SEED)[0]]
            for split in whole[:2]
        )
        return Splits(training, validation, whole.test)


def experiments_of(group: str) -> list[str]:
    """The experiments of a name such as LO19, Rayonix or Rayonix + LG36."""
    return [
        experiment
        for name in group.split(" + ")
        for experiment in (RAYONIX if name == "Rayonix" else (name,))
    ]


def load_shots(source: Source, folder: Path, nproc: int) -> Shots:
    """Prepare the shots, or find them in a folder.

    Args:
        source: Of the shots.
        folder: Has or takes a file for each contrast, experiment after experiment.
        nproc: Number of processes.

    Raises:
        ValueError: The folder has no room, or there are too few shots of an experiment
            to learn from.
    """
    counts = [source.count(name) for name in EXPERIMENTS]
    ends = dict(zip(EXPERIMENTS, np.cumsum(counts).tolist(), strict=True))
    images = _open_images(folder, sum(counts))
    labels, splits, n_spots = [], {}, {}
    for name, n in zip(EXPERIMENTS, counts, strict=True):
        first = ends[name] - n
        done = folder / f"labels-{name}.npy"
        if not done.is_file():
            own = {k: stored[first : ends[name]] for k, stored in images.items()}
            _save(done, source.prepare(name, own, folder, nproc))
        labels.append(np.load(done))
        split = split_at_random(labels[-1], FRACTIONS, SEED)
        try:
            check_splits(labels[-1], split)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        done = folder / f"spots-{name}.npy"
        if not done.is_file():
            _save(done, source.count_spots(name, split.test, folder, nproc))
        n_spots[name] = np.load(done)
        splits[name] = Splits(*(indices + first for indices in split))
    all_labels = np.concatenate(labels)
    data = {k: Dataset(stored, all_labels) for k, stored in images.items()}
    return Shots(data, splits, n_spots)


def _open_images(folder: Path, n: int) -> dict[str, NDArray[np.float16]]:
    """A memory-mapped file for each contrast, new where there is none."""
    paths = {contrast: folder / f"images-{contrast}.npy" for contrast in CONTRASTS}
    missing = [path for path in paths.values() if not path.is_file()]
    n_bytes = find_architecture("ke2018").training_bytes(Preprocessing())
    check_room(
        folder, len(missing) * n * n_bytes, "choose another folder, or fewer shots"
    )
    for path in missing:
        allocate_images(path, n, Preprocessing())
    return {k: np.load(path, mmap_mode="r+") for k, path in paths.items()}


def _save(path: Path, array: NDArray) -> None:
    with replacing(path) as unfinished:
        np.save(unfinished, array)
