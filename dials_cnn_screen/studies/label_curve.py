"""How many labels are enough: Table 7 of Ke et al. (2018), on simulated shots.

Run as ``python -m dials_cnn_screen.studies.label_curve [EXPERIMENT]``, LO19 if none is
named; ``--help`` tells how to make it smaller. The paper's network is trained from
fresh weights on ever more labelled shots of the experiment, and the default model is
fitted to the same shots, by the schedules of dials.cnn_train. All are tested on the
same 600 shots. Four images for validation come with each ten for training, as in a
split of 50, 20 and 30%. Labels are by the spots that are visible in the simulation, as
those that the default model was trained with; ``--seen 12`` has the labels of an expert
who sees the stronger ones only.

On two cores the whole study takes about an hour, and 11 GB in the folder of the
prepared shots, where a second run finds them again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dials_cnn_screen.architecture import TrainingSet
from dials_cnn_screen.ke2018.training_set import Dataset, allocate_images
from dials_cnn_screen.labels.label import label_from_spots
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import plan_run
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.published import TABLE_7
from dials_cnn_screen.studies.simulated_shots import (
    NetworkInput,
    candidate_truth,
    simulate_prepared,
)
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import Fit, Plan, fit
from dials_cnn_screen.training.history import rates
from dials_cnn_screen.training.loop import Epoch
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_anew,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.files import check_room, replacing
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads
from dials_cnn_screen.util.workers import map_on_workers

SIZES = tuple(sorted(TABLE_7))
TEST = 600  # as many as the paper's test splits
# Of the shots for training, validation and test; the default model was trained on none.
SEEDS = (41_000, 42_000, 43_000)
SEED = 1  # of weights and batches
# The networks of the table.
FRESH = "ke2018 with LCN, from fresh weights"
FITTED, UNFITTED = "default model, fitted", "default model as it is"
# Files of the prepared shots.
IMAGES, CANDIDATES = "images.npy", "candidates.npz"

begin_fitted = partial(begin_from, DEFAULT, None, None)
begin_ke2018 = partial(begin_anew, "ke2018", None)


@dataclass(frozen=True, eq=False)
class Result:
    """One network and its predictions for the test shots.

    Attributes:
        network: As the table names it.
        n: Number of training images; 0 for the default model as it is.
        labels: int64 (m,), of the test shots.
        predicted: int64 (m,), classes.
        seconds: Of the training.
    """

    network: str
    n: int
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    seconds: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Labelled shots as one kind of network takes them.

    Attributes:
        data: The shots.
        splits: Of the data.
        epochs: Of each training; None: as the schedule has it.
    """

    data: TrainingSet
    splits: Splits
    epochs: int | None

    def train(
        self, network: str, begin: Callable[[], Start], n: int
    ) -> tuple[Result, NDArray[np.int64] | None]:
        """Train a network on n images.

        Returns:
            The result, and the classes int64 (m,) that the network predicted for the
            test shots before; None with fresh weights.
        """
        training, validation, test = self.splits
        splits = Splits(training[:n], validation[: 2 * n // 5], test)
        changes = {"epochs": self.epochs}
        title = f"{n} images, {network}"
        _, fitted, seconds = train_one(title, self.data, splits, begin, changes)
        labels = self.data.labels[test]
        return Result(network, n, labels, fitted.predicted, seconds), fitted.before


def label_curve(
    experiment: str,
    sizes: Sequence[int],
    n_test: int,
    folder: Path,
    nproc: int,
    epochs: int | None = None,
    seen: float = 0.0,
) -> Iterator[Result]:
    """Train both networks on so many shots each.

    Args:
        experiment: Of Table 1.
        sizes: Numbers of training images.
        n_test: Number of test shots.
        folder: Has or takes the prepared shots.
        nproc: Processes to simulate on, and networks trained from fresh weights at
            once.
        epochs: Of each training; None: as the schedules have it.
        seen: As in expert_labels.

    Raises:
        ValueError: There is no such experiment.
    """
    jobs, splits = plan_shots(experiment, max(sizes), n_test)
    folder = folder / f"{experiment}-{max(sizes)}-{n_test}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CANDIDATES).is_file():
        prepare_shots(jobs, folder, nproc)
    with np.load(folder / CANDIDATES) as arrays:
        candidates = CandidateSet(**arrays)
    labels = expert_labels(candidates, seen)
    # An expert's labels do not say which candidates are spots.
    truth = np.full_like(candidates.truth, np.nan)
    use_threads(nproc)
    fitted = Curve(replace(candidates, labels=labels, truth=truth), splits, epochs)
    for n in sizes:
        result, before = fitted.train(FITTED, begin_fitted, n)
        if n == sizes[0] and before is not None:
            yield replace(result, network=UNFITTED, n=0, predicted=before, seconds=0.0)
        yield result
    yield from map_on_workers(
        _train_anew,
        sizes,
        nproc,
        _start_curve,
        (folder, labels, splits, epochs),
        chunk=1,
        fork=False,
    )


def _start_curve(
    folder: Path, labels: NDArray[np.int64], splits: Splits, epochs: int | None
) -> Curve:
    keep_freed_memory()
    images = np.load(folder / IMAGES, mmap_mode="r")
    return Curve(Dataset(images, labels), splits, epochs)


def _train_anew(curve: Curve, n: int) -> Result:
    return curve.train(FRESH, begin_ke2018, n)[0]


def plan_shots(experiment: str, n: int, n_test: int) -> tuple[list[Job], Splits]:
    """Shots in the deposited shares of Hit, Maybe and Miss, and their splits.

    The first of any split are in these shares too.

    Raises:
        ValueError: There is no such experiment.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"'{experiment}' is not one of {', '.join(EXPERIMENTS)}")
    sizes = (n, 2 * n // 5, n_test)
    runs = [
        plan_run(experiment, size, EXPERIMENTS[experiment].images, seed)
        for size, seed in zip(sizes, SEEDS, strict=True)
    ]
    ends = np.cumsum(sizes)
    return [job for jobs in runs for job in jobs], Splits(
        *np.split(np.arange(ends[-1]), ends[:2])
    )


def prepare_shots(jobs: Sequence[Job], folder: Path, nproc: int) -> None:
    """Simulate the shots into files of folder, as both networks are trained on them.

    Raises:
        ValueError: The folder has no room.
    """
    preparations: list[Any] = [
        begin().preparation for begin in (begin_ke2018, begin_fitted)
    ]
    image, search = preparations
    n_bytes = len(jobs) * find_architecture("ke2018").training_bytes(image)
    check_room(folder, n_bytes, "choose another folder, or fewer labels")
    images = allocate_images(folder / IMAGES, len(jobs), image)
    candidates = CandidateSet.empty(len(jobs), search.most)
    inputs = [NetworkInput("ke2018", image), NetworkInput("spots", search)]
    shots = simulate_prepared(jobs, inputs, nproc)
    for i, shot in enumerate(track(shots, "Simulating", len(jobs), "shot")):
        images[i], found = shot.inputs
        candidates.put(i, found, shot.label, candidate_truth(found, shot))
    with replacing(folder / CANDIDATES) as unfinished:
        np.savez(unfinished, **vars(candidates))


def expert_labels(data: CandidateSet, seen: float) -> NDArray[np.int64]:
    """Labels (n,) of an expert who sees spots of so many standard deviations or more.

    With seen=0 those of the simulation.
    """
    if not seen:
        return data.labels
    height = np.sinh(data.scalars[..., 0])
    n_spots = np.count_nonzero((data.truth == 1) & (height >= seen), axis=1)
    return np.array([int(label_from_spots(n)) for n in n_spots])


def train_one(
    title: str,
    data: TrainingSet,
    splits: Splits,
    begin: Callable[[], Start],
    changes: Mapping[str, int | None],
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> tuple[Plan, Fit, float]:
    """Train a network.

    Args:
        title: Of the progress bar.
        data: Prepared shots.
        splits: Of the data.
        begin: Gives the network.
        changes: To the short schedule, as in choose_schedule.
        device: cpu or cuda.
        checkpoint: As in training.loop.train.

    Returns:
        How it was trained, the result, and seconds.
    """
    torch.manual_seed(SEED)
    start, clock = begin(), time.monotonic()
    schedule = choose_schedule(start, "short", changes)
    plan = Plan(start, schedule, seed=SEED, device=device)
    batches = schedule.epochs * (schedule.batches or 0)
    # The bars of several processes would write over each other.
    disable = True if multiprocessing.parent_process() else None
    with tqdm(desc=title, total=batches, unit="batch", disable=disable) as bar:
        fitted = fit(
            plan, data, splits, _ignore, lambda *_result: bar.update(), checkpoint
        )
    return plan, fitted, time.monotonic() - clock


def _ignore(_epoch: Epoch) -> None:
    pass


def print_table(experiment: str, results: Iterable[Result]) -> None:
    """A row for each network, as it is trained, beside what the paper printed."""
    print(
        f"| training images of {experiment} | network | three classes right, % "
        "| Hit or Maybe kept, % | Miss rejected, % | minutes "
        "| published: Rayonix, LG36, % |"
    )
    print("|---" * 7 + "|", flush=True)
    for r in results:
        kept, rejected, right = rates(r.labels, r.predicted)
        published = ", ".join(str(x) for x in TABLE_7.get(r.n, {}).values())
        print(
            f"| {r.n} | {r.network} | {right} | {kept} | {rejected} "
            f"| {r.seconds / 60:.1f} | {published} |",
            flush=True,
        )


def main() -> None:
    """Make the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.studies.label_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", nargs="?", default="LO19", choices=EXPERIMENTS)
    parser.add_argument("--labels", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--test", type=int, default=TEST, help="number of test shots")
    parser.add_argument("--folder", type=Path, help="where prepared shots are kept")
    parser.add_argument("--epochs", type=int, help="fewer epochs, for a quick look")
    parser.add_argument(
        "--seen",
        type=float,
        default=0.0,
        metavar="Z",
        help="labels of an expert who sees spots of Z standard deviations or more",
    )
    parser.add_argument("--nproc", type=int, default=os.cpu_count())
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        results = label_curve(
            options.experiment,
            options.labels,
            options.test,
            options.folder or Path(temporary),
            options.nproc,
            options.epochs,
            options.seen,
        )
        print_table(options.experiment, results)


if __name__ == "__main__":
    main()
