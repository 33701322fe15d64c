"""Which labels are worth most: the loop of annotate, train and screen, simulated.

Run as ``python -m dials_cnn_screen.studies.labelling [EXPERIMENT]``, L498 if none is
named; ``--help`` tells how to make it larger. In the expert's place, simulated shots
are labelled by their number of visible spots: as they come, or those first of which the
model is least certain, anew after each training. The default model is fitted to all
labels so far as dials.cnn_train does, five for training to two for validation, and
tested on other shots.

With --fresh the layers that predict the class begin with fresh weights, as if the model
knew spots but not yet what a hit is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from dials_cnn_screen.architecture import TrainingSet
from dials_cnn_screen.evaluation.metrics import sensitivity_at
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.orders import uncertain_order
from dials_cnn_screen.labels.probabilities import p_keep, softmax
from dials_cnn_screen.labels.splits import Splits, split_at_random
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import plan_run
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.simulated_shots import simulate_candidates
from dials_cnn_screen.training.fitting import Plan, fit
from dials_cnn_screen.training.loop import predict_logits
from dials_cnn_screen.training.starting import (
    DEFAULT,
    Start,
    begin_from,
    choose_schedule,
)
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.threads import use_threads

ORDERS = ("in order", "by uncertainty")
# Hits kept, and misses rejected, that are enough: by hand, as good as the paper's best.
GOAL = 0.95
# Of the labels for training, validation and test: as dials.cnn_train, without a test.
FRACTIONS = (5, 2, 0)
# Of the shots to label and to test on; the default model was trained on neither.
SEEDS = (51_000, 52_000)


@dataclass(frozen=True)
class Round:
    """What a number of labels comes to.

    Attributes:
        n: Number of labels.
        sensitivity: Fraction of the hits kept where GOAL of the misses are rejected.
    """

    n: int
    sensitivity: float


def label_and_train(
    order: str,
    data: CandidateSet,
    pool: NDArray[np.int64],
    test: NDArray[np.int64],
    sizes: Sequence[int],
    seed: int,
    fresh: bool,
) -> list[Round]:
    """Label and train by turns; the first round is without labels.

    Args:
        order: One of ORDERS.
        data: All shots.
        pool: Indices of the shots to label, in their order.
        test: Indices of the shots to test on.
        sizes: Number of labels in each round.
        seed: Of splits, weights and batches.
        fresh: Begin without knowing the classes.
    """
    start, temperature = begin(seed, fresh), 1.0
    labelled = np.zeros(0, np.int64)
    rounds = [Round(0, evaluate(start, temperature, data, test))]
    for n in sizes:
        left = np.setdiff1d(pool, labelled, assume_unique=True)
        left = pool[np.isin(pool, left)]  # in the pool's order
        if order == "by uncertainty":
            left = left[most_uncertain(start, temperature, data, left)]
        labelled = np.concatenate([labelled, left[: n - len(labelled)]])
        splits = split_at_random(data.labels[labelled], FRACTIONS, seed)
        start = begin(seed, fresh)
        plan = Plan(start, choose_schedule(start, "short", {}), seed=seed)
        fitted = fit(
            plan,
            data,
            Splits(labelled[splits.training], labelled[splits.validation], test),
            on_epoch=lambda _epoch: None,
        )
        temperature = fitted.calibration.temperature
        rounds.append(Round(n, evaluate(start, temperature, data, test)))
    return rounds


def prepared_candidates(jobs: Sequence[Job], folder: Path, nproc: int) -> CandidateSet:
    """Simulate the shots and find their candidates, or read them from the folder."""
    path = folder / "candidates.npz"
    if not path.is_file():
        search: Any = load_model(DEFAULT).preparation
        found = simulate_candidates(jobs, search, nproc, "Shots")
        with replacing(path) as unfinished:
            np.savez(unfinished, **vars(found))
    with np.load(path) as arrays:
        return CandidateSet(**arrays)


def begin(seed: int, fresh: bool) -> Start:
    """The default model to train its last layers; fresh: with fresh weights there."""
    torch.manual_seed(seed)
    start = begin_from(DEFAULT, None, None)
    if fresh:
        for layer in start.network.modules():
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                layer.reset_parameters()
    return start


def most_uncertain(
    start: Start, temperature: float, data: TrainingSet, indices: NDArray[np.int64]
) -> list[int]:
    """Places in indices, in the order in which dials.cnn_annotate shows images."""
    return uncertain_order(p_keep(_probabilities(start, temperature, data, indices)))


def evaluate(
    start: Start, temperature: float, data: TrainingSet, test: NDArray[np.int64]
) -> float:
    """Sensitivity at a specificity of GOAL."""
    scores = p_keep(_probabilities(start, temperature, data, test))
    return sensitivity_at(GOAL, scores, data.labels[test] != Label.MISS)


def labels_needed(rounds: Sequence[Round]) -> int | None:
    """The fewest labels with GOAL of the hits kept; None if that is not reached."""
    return next((r.n for r in rounds if r.sensitivity >= GOAL), None)


def print_table(experiment: str, results: dict[str, list[list[Round]]]) -> None:
    """Sensitivity by number of labels and order: mean, least and most of the repeats.

    Args:
        experiment: Whose shots they are.
        results: By order, and repeat.
    """
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
        numbers = ", ".join("not reached" if n is None else str(n) for n in needed)
        print(f"\nLabels to {GOAL:.0%} / {GOAL:.0%}, {order}, each repeat: {numbers}")


def _probabilities(
    start: Start, temperature: float, data: TrainingSet, indices: NDArray[np.int64]
) -> NDArray[np.float64]:
    logits, _ = predict_logits(start.network, data, indices, "cpu")
    return softmax(logits.numpy(), temperature)


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
    parser.add_argument("--test", type=int, default=400, help="number of test shots")
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
