"""Simulated shots beside the deposited ones of CXIDB-76, by dials.find_spots's counts.

Run as ``python -m dials_cnn_screen.studies.compare_deposit FOLDER [SHOTS [NAME ...]]``.
FOLDER has a folder for each experiment, such as L498, with expert_annotation.txt,
dials_annotation.txt and the deposited mask in it. SHOTS of each experiment, or of those
that are named, are simulated in the deposited shares of Hit, Maybe and Miss, and their
spots counted with the parameters of Table 2. The table has the spots of each class, and
figure_7.png, in the current folder, the histograms of Fig. 7 side by side.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch  # before DIALS: see threads.py
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import area_under_curve
from dials_cnn_screen.evaluation.spotfinding import SpotFinding, count_spots, preset
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import map_shots, plan_run, simulate_job
from dials_cnn_screen.studies.compare_find_spots import as_still
from dials_cnn_screen.studies.figures import COLOURS, make_figure, save_figure
from dials_cnn_screen.util.progress import track

SHOTS = 300  # of each experiment, by hand
SEED = 61_000  # of the shots, one more for each experiment
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Counts are alike within this factor, or this many spots where there are few, and areas
# under the curve within this: by hand.
FACTOR, FEW_SPOTS, AREA = 1.5, 1.0, 0.03
# The masks that dials.find_spots had; L498 had none.
MASKS = {
    "LG36": "mask2.pickle",
    "LN84": "mask.pickle",
    "LN83": "mask.pickle",
    "LO19": "mask.pickle",
}


@dataclass(frozen=True)
class Counts:
    """Shots of one experiment.

    Attributes:
        labels: int (n,), Label of each shot.
        n_spots: int (n,), spots that dials.find_spots finds on it.
    """

    labels: NDArray[np.int64]
    n_spots: NDArray[np.int64]

    def quantiles(self, label: Label) -> NDArray[np.float64]:
        """Spots of a class at QUANTILES, NaN where no shot is of the class."""
        spots = self.n_spots[self.labels == label]
        return np.quantile(spots, QUANTILES) if len(spots) else np.full(5, np.nan)

    def area(self) -> float:
        """Area under the curve of Hit or Maybe against Miss by the count."""
        return area_under_curve(self.n_spots, self.labels != Label.MISS)

    def share(self, label: Label) -> float:
        """Of the shots."""
        return float(np.mean(self.labels == label))


def read_deposited(folder: Path, experiment: str) -> Counts:
    """The deposited labels and counts of an experiment.

    Raises:
        ValueError: A file can't be read, or an image has no label.
        OSError: There is no such file.
    """
    annotations = read_annotations(folder / experiment / "expert_annotation.txt")
    spots = read_spot_counts(folder / experiment / "dials_annotation.txt").by_number
    labelled = [a for a in annotations if a.label is not None]
    return Counts(
        np.array([a.label for a in labelled]),
        np.array([spots.get(a.name.number, 0) for a in labelled]),
    )


def table_2(folder: Path, experiment: str) -> SpotFinding:
    """The parameters of Table 2, with the deposited mask.

    Raises:
        ValueError: The mask is missing.
    """
    if experiment not in MASKS:
        return preset(experiment)
    mask = folder / experiment / MASKS[experiment]
    if not mask.is_file():
        raise ValueError(f"there is no mask '{mask}'; give the folder of CXIDB-76")
    return replace(preset(experiment), changes=f"spotfinder.lookup.mask={mask}")


def count_simulated(
    experiment: str, finding: SpotFinding, n_shots: int, seed: int, nproc: int
) -> Counts:
    """Simulate shots in the deposited shares, and count their spots."""
    jobs = plan_run(experiment, n_shots, EXPERIMENTS[experiment].images, seed)
    shots = map_shots(partial(_count, finding), jobs, nproc)
    title = f"{experiment}: simulating and counting"
    labels, n_spots = zip(*track(shots, title, n_shots, "shot"), strict=True)
    return Counts(np.array(labels), np.array(n_spots))


def _count(finding: SpotFinding, job: Job) -> tuple[Label, int]:
    """Label and number of spots of a shot, 0 where dials.find_spots gives up."""
    shot = simulate_job(job)
    with as_still(shot, job[0]) as still:
        return shot.label, count_spots(still, finding) or 0


def rows(experiment: str, simulated: Counts, deposited: Counts) -> list[str]:
    """Rows of the table, one a class; what is not alike is marked."""
    lines = []
    for label in Label:
        pairs = zip(simulated.quantiles(label), deposited.quantiles(label), strict=True)
        share = f"{simulated.share(label):.3f} / {deposited.share(label):.3f}"
        area = ""
        if label is Label.HIT:
            area = f"{simulated.area():.3f} / {deposited.area():.3f}"
            area += "" if same_area(simulated, deposited) else " *"
        cells = (experiment, label.title, share, *map(_pair, pairs), area)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _pair(counts: tuple[float, float]) -> str:
    simulated, deposited = counts
    mark = "" if same_count(simulated, deposited) else " *"
    return f"{simulated:.0f} / {deposited:.0f}{mark}"


def same_count(simulated: float, deposited: float) -> bool:
    """Whether two numbers of spots are alike."""
    few = abs(simulated - deposited) <= FEW_SPOTS
    return few or 1 / FACTOR <= simulated / max(deposited, 1e-9) <= FACTOR


def same_area(simulated: Counts, deposited: Counts) -> bool:
    """Whether both counts tell hits and misses apart alike."""
    return abs(simulated.area() - deposited.area()) <= AREA


def draw_figure_7(both: dict[str, tuple[Counts, Counts]], path: Path) -> Path:
    """Histograms of spots as in Fig. 7, simulated left, deposited right.

    Args:
        both: Simulated and deposited shots of each experiment.
        path: Of the PNG.
    """
    figure = make_figure(8.0, 2.1 * len(both))
    axes = figure.subplots(len(both), 2, sharex=True, squeeze=False)
    bins = np.geomspace(0.7, 4000, 61)
    for row, (name, counts) in zip(axes, both.items(), strict=True):
        for panel, shots, source in zip(
            row, counts, ("simulated", "deposited"), strict=True
        ):
            # An image without spots is drawn as one with one.
            of_class = [np.maximum(shots.n_spots[shots.labels == k], 1) for k in Label]
            panel.hist(
                of_class,
                bins,
                stacked=True,
                color=[COLOURS[k] for k in Label],
                label=[
                    f"{k.title} {len(n)}" for k, n in zip(Label, of_class, strict=True)
                ],
                weights=[np.full(len(n), 1 / len(shots.labels)) for n in of_class],
            )
            cut = preset(name).min_spots
            panel.axvline(cut, color="black", linewidth=0.8)
            panel.set(xscale="log", title=f"{name}, {source}, cut at {cut}")
            panel.legend(fontsize="x-small")
        row[0].set_ylabel("share of shots")
    for panel in axes[-1]:
        panel.set_xlabel("spots by dials.find_spots")
    return save_figure(figure, path)


def main(folder: Path, n_shots: int, names: Sequence[str]) -> None:
    """Print the table and draw the figure."""
    print(
        f"{n_shots} simulated shots of each experiment / deposited shots. Spots by "
        "dials.find_spots with\nthe parameters of Table 2 and the deposited masks, at "
        f"quantiles of each class.\n*: not within a factor of {FACTOR} (or "
        f"{FEW_SPOTS:.0f} spot), or {AREA} of the area under the curve.\n\n"
        "| experiment | class | share | 5% | 25% | 50% | 75% | 95% | AUC |\n"
        "|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    deposited = {name: read_deposited(folder, name) for name in names}
    both = {}
    for name in names:
        seed = SEED + list(EXPERIMENTS).index(name)
        finding = table_2(folder, name)
        simulated = count_simulated(name, finding, n_shots, seed, os.cpu_count() or 1)
        both[name] = simulated, deposited[name]
        print(*rows(name, *both[name]), sep="\n", flush=True)
    print(f"\nwrote {draw_figure_7(both, Path('figure_7.png'))}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else SHOTS,
        sys.argv[3:] or list(EXPERIMENTS),
    )
