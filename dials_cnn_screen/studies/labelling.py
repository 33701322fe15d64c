"""Which labels are worth most: the loop of annotate, train and screen, with a robot.

Run as ``python -m dials_cnn_screen.studies.labelling [EXPERIMENT]``, L498 if none is
named; ``--help`` tells how to make it larger. In the expert's place a robot labels
simulated shots by the number of visible spots: as they come, or those of which the
model is least sure, which are looked for again after each training. The default model
is fitted to all labels so far as dials.cnn_train does, five for training to two for
validation, and judged by other shots.

With --fresh the layers that tell the class begin with fresh weights, as if the model
knew spots but not yet what a hit is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dials_cnn_screen.evaluation.metrics import sensitivity_at
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.orders import uncertain_order
from dials_cnn_screen.labels.probabilities import keep_score, probabilities
from dials_cnn_screen.labels.splits import Parts, split_at_random
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.run import Job, plan_run
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.simulated_shots import simulate_candidates
from dials_cnn_screen.training.fitting import Plan, fit
from dials_cnn_screen.training.loop import LabelledFrames, class_scores
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.threads import use_threads

ORDERS = ("in order", "by uncertainty")
GOAL = 0.95
FRACTIONS = (5, 2, 0)
# Of the shots to label and to judge by.
SEEDS = (51_000, 52_000)


@dataclass(frozen=True)
class Round:
    """After n labels, the hits kept where a share of GOAL of the misses is rejected."""

    n: int
    sensitivity: float


def label_and_train(
    order: str,
    data: LabelledFrames,
    pool: np.ndarray,
    test: np.ndarray,
    sizes: Sequence[int],
    seed: int,
    fresh: bool,
) -> list[Round]:
    """The loop, to so many labels each time; the first round is without labels.

    pool, test: indices into data. fresh: begin without knowing the classes.
    """
    start, temperature = begin(seed, fresh), 1.0
    labelled = np.zeros(0, np.int64)
    rounds = [Round(0, judge(start, temperature, data, test))]
    for n in sizes:
        left = np.setdiff1d(pool, labelled, assume_unique=True)
        left = pool[np.isin(pool, left)]  # in the pool's order
        if order == "by uncertainty":
            left = left[look_for_doubt(start, temperature, data, left)]
        labelled = np.concatenate([labelled, left[: n - len(labelled)]])
        parts = split_at_random(data.labels[labelled], FRACTIONS, seed)
        start = begin(seed, fresh)
        plan = Plan(start, choose_schedule(start, "short", {}), seed=seed)
        found = fit(
            plan,
            data,
            Parts(labelled[parts.training], labelled[parts.validation], test),
            lambda _epoch: None,
        )
        temperature = found.calibration.temperature
        rounds.append(Round(n, judge(start, temperature, data, test)))
    return rounds


def prepared_candidates(jobs: list[Job], folder: Path, nproc: int) -> CandidateSet:
    """The candidates of the shots, simulated or found in folder."""
    path = folder / "candidates.npz"
    if not path.is_file():
        search = begin_from(DEFAULT, None, None).preprocessing
        track = partial(tqdm, desc="Shots", total=len(jobs), disable=None)
        found = simulate_candidates(jobs, search, nproc, track)
        with replacing(path) as unfinished:
            np.savez(unfinished, **vars(found))
    with np.load(path) as arrays:
        return CandidateSet(**arrays)


def begin(seed: int, fresh: bool) -> Start:
    """The default model, of which the head is to be trained."""
    torch.manual_seed(seed)
    start = begin_from(DEFAULT, None, None)
    if fresh:
        for layer in start.network.head:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    return start


def look_for_doubt(
    start: Start, temperature: float, data: LabelledFrames, indices: np.ndarray
) -> list[int]:
    """Places in indices, those first that order=uncertain would show first."""
    p = _probabilities(start, temperature, data, indices)
    names = [("", i) for i in range(len(indices))]
    entries = [{"p_hit": x[Label.HIT], "p_maybe": x[Label.MAYBE]} for x in p]
    return uncertain_order(names, dict(zip(names, entries, strict=True)))


def judge(
    start: Start, temperature: float, data: LabelledFrames, test: np.ndarray
) -> float:
    """Sensitivity at a specificity of GOAL."""
    scores = keep_score(_probabilities(start, temperature, data, test))
    return sensitivity_at(GOAL, scores, data.labels[test] != Label.MISS)


def labels_needed(rounds: Sequence[Round]) -> int | None:
    """The fewest labels with GOAL of the hits kept; None if that is not reached."""
    return next((r.n for r in rounds if r.sensitivity >= GOAL), None)


def print_table(experiment: str, results: dict[str, list[list[Round]]]) -> None:
    """Sensitivity by labels and order: the mean of the repeats, least and most."""
    print(
        f"| labels of {experiment} | "
        + " | ".join(f"Hit or Maybe kept at {GOAL:.0%}, {order}" for order in results)
        + " |"
    )
    print("|---" * (1 + len(results)) + "|")
    first = next(iter(results.values()))[0]
    for i, n in enumerate(r.n for r in first):
        cells = []
        for runs in results.values():
            values = 100 * np.array([run[i].sensitivity for run in runs])
            cells.append(f"{values.mean():.1f} ({values.min():.1f}-{values.max():.1f})")
        print(f"| {n} | {' | '.join(cells)} |")
    for order, runs in results.items():
        needed = [labels_needed(run) for run in runs]
        told = ", ".join("not reached" if n is None else str(n) for n in needed)
        print(f"\nLabels to {GOAL:.0%} / {GOAL:.0%}, {order}, each repeat: {told}")


def _probabilities(
    start: Start, temperature: float, data: LabelledFrames, indices: np.ndarray
) -> np.ndarray:
    scores, _ = class_scores(start.network, data, indices)
    return probabilities(scores.numpy(), temperature)


def main() -> None:
    """Make the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.studies.labelling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", nargs="?", default="L498", choices=EXPERIMENTS)
    parser.add_argument(
        "--labels", type=int, nargs="+", default=(20, 40, 80, 160), metavar="N"
    )
    parser.add_argument("--pool", type=int, default=400, help="shots to choose from")
    parser.add_argument("--test", type=int, default=400, help="shots to judge by")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--folder", type=Path, help="where prepared shots are kept")
    options = parser.parse_args()
    shares = EXPERIMENTS[options.experiment].images
    jobs = [
        job
        for n, seed in zip((options.pool, options.test), SEEDS, strict=True)
        for job in plan_run(options.experiment, n, shares, seed)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = prepared_candidates(jobs, folder, options.nproc)
    use_threads(options.nproc)
    pool, test = np.split(np.arange(len(jobs)), [options.pool])
    results: dict[str, list[list[Round]]] = {order: [] for order in ORDERS}
    with tqdm(total=options.repeats * len(ORDERS), disable=None) as bar:
        for seed in range(options.repeats):
            shuffled = np.random.default_rng(seed).permutation(pool)
            for order in ORDERS:
                results[order].append(
                    label_and_train(
                        order,
                        data,
                        shuffled,
                        test,
                        options.labels,
                        seed,
                        options.fresh,
                    )
                )
                bar.update()
    print_table(options.experiment, results)


if __name__ == "__main__":
    main()
