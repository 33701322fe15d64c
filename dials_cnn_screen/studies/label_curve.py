"""How many labels are enough: Table 7 of Ke et al. (2018), on simulated shots.

Run as ``python -m dials_cnn_screen.studies.label_curve [EXPERIMENT]``, LO19 if none is
named; ``--help`` tells how to make it smaller. The paper's network is trained from
fresh weights on ever more labelled shots of the experiment, and the default model is
fitted to the same shots, by the schedules of dials.cnn_train. All are judged by the
same 600 shots. Four images for validation come with each ten for training, as in a
split of 50, 20 and 30%. Labels are by the spots that are visible in the simulation, as
those that the default model was trained with; ``--seen 12`` has an expert label who
sees the stronger ones only.

On two cores the whole study takes about an hour, and 11 GB in the folder of the
prepared shots, where a second run finds them again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dials_cnn_screen.ke2018.training_set import Dataset, allocate_images, wide
from dials_cnn_screen.labels.label import label_from_spots
from dials_cnn_screen.labels.splits import Parts
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import Job, plan_run
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.published import TABLE_7
from dials_cnn_screen.studies.simulated_shots import simulate_prepared
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.fitting import Fit, Plan, fit
from dials_cnn_screen.training.history import rates
from dials_cnn_screen.training.loop import Epoch, LabelledFrames
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_anew,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.files import check_room, replacing
from dials_cnn_screen.util.threads import keep_freed_memory, use_threads
from dials_cnn_screen.util.workers import map_on_workers

SIZES = tuple(sorted(TABLE_7))
TEST = 600
# Of the shots for training, validation and test.
SEEDS = (41_000, 42_000, 43_000)
SEED = 1  # of weights and batches
SCRATCH = "ke2018 with LCN, from fresh weights"
# Of the prepared shots.
IMAGES, CANDIDATES = "images.npy", "candidates.npz"
FITTED, UNTOUCHED = "default model, fitted", "default model as it is"

begin_fitted = partial(begin_from, DEFAULT, None, None)
begin_ke2018 = partial(begin_anew, "ke2018", None)


@dataclass(frozen=True, eq=False)
class Result:
    """One network: number of training images, and what it says of the test shots.

    n: 0 for the default model as it is. labels, predicted: int64 (m,).
    """

    way: str
    n: int
    labels: np.ndarray
    predicted: np.ndarray
    seconds: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Shots as one kind of network sees them; epochs: None, the schedule's."""

    data: LabelledFrames
    parts: Parts
    epochs: int | None

    def train(
        self, way: str, begin: Callable[[], Start], n: int
    ) -> tuple[Result, np.ndarray | None]:
        """Train on n images; and what the network said of the test shots before."""
        whole = self.parts
        parts = Parts(whole.training[:n], whole.validation[: 2 * n // 5], whole.test)
        changes = {"epochs": self.epochs}
        title = f"{n} images, {way}"
        _, found, seconds = train_one(title, self.data, parts, begin, changes)
        labels = self.data.labels[parts.test]
        return Result(way, n, labels, found.predicted, seconds), found.before


def label_curve(
    experiment: str,
    sizes: Sequence[int],
    n_test: int,
    folder: Path,
    nproc: int,
    epochs: int | None = None,
    seen: float = 0.0,
) -> Iterator[Result]:
    """Networks trained on so many shots each, both ways; epochs: None, the schedules'.

    folder: takes the prepared shots. seen: as in expert_labels. Raises ValueError for
    an unknown experiment.
    """
    jobs, parts = plan_shots(experiment, max(sizes), n_test)
    folder = folder / f"{experiment}-{max(sizes)}-{n_test}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CANDIDATES).is_file():
        prepare_shots(jobs, folder, nproc)
    with np.load(folder / CANDIDATES) as arrays:
        candidates = CandidateSet(**arrays)
    labels = expert_labels(candidates, seen)
    # Nobody tells an expert's network which candidates are spots.
    truth = np.full_like(candidates.truth, np.nan)
    use_threads(nproc)
    fitted = Curve(replace(candidates, labels=labels, truth=truth), parts, epochs)
    for n in sizes:
        result, before = fitted.train(FITTED, begin_fitted, n)
        if n == sizes[0]:
            yield replace(result, way=UNTOUCHED, n=0, predicted=before, seconds=0.0)
        yield result
    arguments = folder, labels, parts, epochs
    if nproc == 1:
        _start_worker(*arguments)
        yield from map(_train_anew, sizes)
        return
    yield from map_on_workers(
        _train_anew, sizes, nproc, _start_worker, arguments, chunk=1, fork=True
    )


# A process's own, so that a task is no more than a number.
_anew: Curve


def _start_worker(
    folder: Path, labels: np.ndarray, parts: Parts, epochs: int | None
) -> None:
    global _anew
    # A network by itself leaves a second processor idle half of the time.
    use_threads(1)
    keep_freed_memory()
    images = np.load(folder / IMAGES, mmap_mode="r")
    _anew = Curve(Dataset(images, labels), parts, epochs)


def _train_anew(n: int) -> Result:
    return _anew.train(SCRATCH, begin_ke2018, n)[0]


def plan_shots(experiment: str, n: int, n_test: int) -> tuple[list[Job], Parts]:
    """Shots in the deposited shares of Hit, Maybe and Miss, and what they are for.

    The first of any part are in these shares too.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"'{experiment}' is not one of {', '.join(EXPERIMENTS)}")
    sizes = (n, 2 * n // 5, n_test)
    runs = [
        plan_run(experiment, size, EXPERIMENTS[experiment].images, seed)
        for size, seed in zip(sizes, SEEDS, strict=True)
    ]
    ends = np.cumsum(sizes)
    return [job for jobs in runs for job in jobs], Parts(
        *np.split(np.arange(ends[-1]), ends[:2])
    )


def prepare_shots(jobs: list[Job], folder: Path, nproc: int) -> None:
    """Simulate the shots into files of folder, as both networks are trained on them.

    Raises ValueError where there is no room.
    """
    image, search = (begin().preprocessing for begin in (begin_ke2018, begin_fitted))
    n_bytes = len(jobs) * 2 * wide(image).size ** 2
    check_room(folder, n_bytes, "choose another folder, or fewer labels")
    images = allocate_images(folder / IMAGES, len(jobs), image)
    candidates = CandidateSet.empty(len(jobs), search.most)
    shots = simulate_prepared(jobs, [image, search], nproc)
    bar = tqdm(shots, "Simulating", len(jobs), disable=None)
    for i, ((prepared, found), label) in enumerate(bar):
        images[i] = prepared
        candidates.put(i, *found, label)
    with replacing(folder / CANDIDATES) as unfinished:
        np.savez(unfinished, **vars(candidates))


def expert_labels(data: CandidateSet, seen: float) -> np.ndarray:
    """Labels (n,) of an expert who sees visible spots of so many deviations or more.

    With 0 those of the simulation.
    """
    if not seen:
        return data.labels
    height = np.sinh(data.scalars[..., 0])
    n_spots = np.count_nonzero((data.truth == 1) & (height >= seen), axis=1)
    return np.array([int(label_from_spots(n)) for n in n_spots])


def train_one(
    title: str,
    data: LabelledFrames,
    parts: Parts,
    begin: Callable[[], Start],
    changes: dict[str, int | None],
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    watched: bool = True,
) -> tuple[Plan, Fit, float]:
    """Train a network; how, what came of it, and seconds.

    changes: to the short schedule, as in choose_schedule. checkpoint: as in train.
    watched: whether it shows how far it is.
    """
    torch.manual_seed(SEED)
    start, clock = begin(), time.monotonic()
    schedule = choose_schedule(start, "short", changes)
    plan = Plan(start, schedule, seed=SEED, device=device)
    batches = schedule.epochs * schedule.batches
    disable = None if watched else True
    with tqdm(desc=title, total=batches, unit="batch", disable=disable) as bar:
        found = fit(
            plan, data, parts, _ignore, lambda *_result: bar.update(), checkpoint
        )
    return plan, found, time.monotonic() - clock


def _ignore(_epoch: Epoch) -> None:
    pass


def print_table(experiment: str, results: Iterable[Result]) -> None:
    """A row for each network, as it is made, beside what the paper has for so many."""
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
            f"| {r.n} | {r.way} | {right} | {kept} | {rejected} "
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
    parser.add_argument("--test", type=int, default=TEST, help="shots to judge by")
    parser.add_argument("--folder", type=Path, help="where prepared shots are kept")
    parser.add_argument("--epochs", type=int, help="fewer epochs, for a quick look")
    parser.add_argument(
        "--seen",
        type=float,
        default=0.0,
        metavar="Z",
        help="labels of an expert who sees spots of Z deviations or more only",
    )
    parser.add_argument("--nproc", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        results = label_curve(
            asked.experiment,
            asked.labels,
            asked.test,
            asked.folder or Path(temporary),
            asked.nproc,
            asked.epochs,
            asked.seen,
        )
        print_table(asked.experiment, results)


if __name__ == "__main__":
    main()
