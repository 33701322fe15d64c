"""The shots of the studies, prepared once in every contrast, and shared out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dials_cnn_screen.ke2018.preprocessing import CONTRASTS, Preprocessing
from dials_cnn_screen.ke2018.training_set import Dataset, allocate_images, wide
from dials_cnn_screen.labels.splits import Parts, check_parts, split_at_random
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.sources import Source
from dials_cnn_screen.util.files import check_room, replacing

RAYONIX = ("LO19", "LN83", "LN84")
FRACTIONS = (0.5, 0.2, 0.3)  # section 3.4
SEED = 1  # of what is drawn from the shots


@dataclass(frozen=True, eq=False)
class Shots:
    """Shots of all experiments, and what is known of them.

    data: by contrast, with the same labels. parts: of each experiment. n_spots: of its
    test part, int (m,).
    """

    data: dict[str, Dataset]
    parts: dict[str, Parts]
    n_spots: dict[str, np.ndarray]

    def labels(self, experiment: str) -> np.ndarray:
        """Those of its test part, int64 (m,)."""
        return self.data[CONTRASTS[0]].labels[self.parts[experiment].test]

    def parts_of(self, group: str, n: int | None = None) -> Parts:
        """The parts of a group of experiments together; n: of training images.

        A smaller number is drawn, of each class alike, and as much smaller a
        validation part, as the paper's reduced sets are split too (Table 7).
        """
        together = [self.parts[name] for name in experiments_of(group)]
        parts = Parts(*(np.concatenate(part) for part in zip(*together, strict=True)))
        if n is None:
            return parts
        share = n / len(parts.training)
        labels = self.data[CONTRASTS[0]].labels
        return Parts(
            *(
                part[split_at_random(labels[part], (share, 1 - share, 0), SEED)[0]]
                for part in parts[:2]
            ),
            parts.test,
        )


def experiments_of(group: str) -> list[str]:
    """The experiments of a name such as LO19, Rayonix or Rayonix + LG36."""
    return [
        experiment
        for part in group.split(" + ")
        for experiment in (RAYONIX if part == "Rayonix" else (part,))
    ]


def load_shots(source: Source, folder: Path, nproc: int) -> Shots:
    """Prepare the shots, or find them in folder.

    There each contrast has one file, experiment after experiment. Raises ValueError
    where there is no room, or too few shots of an experiment to learn from.
    """
    counts = [source.count(name) for name in EXPERIMENTS]
    ends = dict(zip(EXPERIMENTS, np.cumsum(counts).tolist(), strict=True))
    images = _open_images(folder, sum(counts))
    labels, parts, n_spots = [], {}, {}
    for name, n in zip(EXPERIMENTS, counts, strict=True):
        first = ends[name] - n
        done = folder / f"labels-{name}.npy"
        if not done.is_file():
            own = {k: stored[first : ends[name]] for k, stored in images.items()}
            _save(done, source.prepare(name, own, folder, nproc))
        labels.append(np.load(done))
        split = split_at_random(labels[-1], FRACTIONS, SEED)
        try:
            check_parts(labels[-1], split)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        done = folder / f"spots-{name}.npy"
        if not done.is_file():
            _save(done, source.count_spots(name, split.test, folder, nproc))
        n_spots[name] = np.load(done)
        parts[name] = Parts(*(part + first for part in split))
    all_labels = np.concatenate(labels)
    data = {k: Dataset(stored, all_labels) for k, stored in images.items()}
    return Shots(data, parts, n_spots)


def _open_images(folder: Path, n: int) -> dict[str, np.ndarray]:
    """A memory-mapped file for each contrast, new where there is none."""
    paths = {contrast: folder / f"images-{contrast}.npy" for contrast in CONTRASTS}
    missing = [path for path in paths.values() if not path.is_file()]
    each = 2 * wide(Preprocessing()).size ** 2
    check_room(folder, len(missing) * n * each, "choose another folder, or fewer shots")
    for path in missing:
        allocate_images(path, n, Preprocessing())
    return {k: np.load(path, mmap_mode="r+") for k, path in paths.items()}


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as unfinished:
        np.save(unfinished, array)
