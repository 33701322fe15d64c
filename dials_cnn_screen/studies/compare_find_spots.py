"""The default model beside dials.find_spots, on the same fresh simulated shots.

Run as ``python -m dials_cnn_screen.studies.compare_find_spots [SHOTS]``, SHOTS of each
of the five experiments of Table 1, drawn as in evaluate_models.py; 12 are a quick
check. A shot is positive where its visible spots make it a Hit or Maybe.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch  # before DIALS: see threads.py
from tqdm import tqdm

from dials_cnn_screen.evaluation.metrics import (
    area_under_curve,
    cut_at_specificity,
    sensitivity_at,
)
from dials_cnn_screen.evaluation.spotfinding import (
    SpotFinding,
    count_spots,
    open_stills,
    preset,
    spot_areas,
)
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import keep_score
from dials_cnn_screen.models.classifier import Classifier, make_classifier
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import find_experiment
from dials_cnn_screen.simulation.run import Job, plan_run, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.studies.evaluate_models import (
    SEED,
    SHOTS,
    Outcome,
    interval,
    judge_shot,
    plan,
)
from dials_cnn_screen.util.workers import map_on_workers

METHODS = ("find_spots, default", "find_spots, Table 2", "find_spots, tuned")
FEWEST_SHOTS = 12
TUNING_SHOTS = 100  # of each experiment, half of them misses
TUNING_SEED = SEED + 1000
# Tried in tuning: algorithm, gain and global threshold in units of Table 2's, sigma
# strong (None: Table 2's). Few, as each takes find_spots a while.
GRID = (
    ("dispersion", 1.0, 1.0, None),
    ("dispersion", 1.0, 0.0, 3),
    ("dispersion_extended", 0.5, 0.0, 3),
    ("dispersion_extended", 0.5, 0.0, 6),
    ("dispersion_extended", 1.0, 0.0, 3),
    ("dispersion_extended", 1.0, 0.0, 6),
    ("dispersion_extended", 2.0, 0.0, 3),
    ("dispersion_extended", 2.0, 0.0, 6),
)
# And with each of these smallest sizes of a spot, pixels, which cost nothing.
SPOT_SIZES = (1, 2, 3, 6)


@dataclass(frozen=True)
class Tuning:
    """Parameters tuned on shots of an experiment, and the spots found there.

    counts: (n,). positive: bool (n,).
    """

    finding: SpotFinding
    counts: np.ndarray
    positive: np.ndarray

    def with_cut(self, specificity: float) -> SpotFinding:
        """The parameters with the lowest cut that has this specificity here."""
        cut = cut_at_specificity(specificity, self.counts, self.positive)
        return replace(self.finding, min_spots=cut)


@dataclass(frozen=True)
class Compared:
    """One shot: the network's outcome, and the spots by each kind of spot finding.

    counts: number of spots, None where find_spots gave up. seconds: of processor time,
    the network's first, reading left out.
    """

    outcome: Outcome
    counts: tuple[int | None, ...]
    seconds: tuple[float, ...]


def grid(table_2: SpotFinding) -> list[SpotFinding]:
    """What is tried in tuning, with spots of one pixel and more."""
    return [
        replace(
            table_2,
            algorithm=algorithm,
            gain=table_2.gain * gain,
            global_threshold=table_2.global_threshold * threshold,
            sigma_strong=sigma or table_2.sigma_strong,
            min_spot_size=1,
        )
        for algorithm, gain, threshold, sigma in GRID
    ]


def tune(experiment: str, n_shots: int, seed: int) -> Tuning:
    """Choose the parameters of spot finding for an experiment, on shots of its own."""
    hit, maybe, _ = find_experiment(experiment).images
    jobs = plan_run(experiment, n_shots, (hit, maybe, hit + maybe), seed)
    findings = grid(preset(experiment))
    shots = _map(_count_in_grid, jobs, (None, findings), f"{experiment}: tuning")
    positive = np.array([positive for positive, _ in shots])
    counts = np.array([counts for _, counts in shots])
    areas = [
        [area_under_curve(column, positive) for column in of_finding.T]
        for of_finding in counts.swapaxes(0, 1)
    ]
    i, j = np.unravel_index(np.argmax(areas), np.shape(areas))
    best = replace(findings[i], min_spot_size=SPOT_SIZES[j])
    return Tuning(best, counts[:, i, j], positive)


def compare(
    model: Model, jobs: list[Job], findings: Sequence[SpotFinding]
) -> list[Compared]:
    """Simulate shots of one experiment; classify each, and count its spots."""
    return _map(_compare_on_shot, jobs, (model, findings), jobs[0][0])


def network_specificity(shots: list[Compared]) -> float:
    """Fraction of the misses that the network rejects at its threshold."""
    kept = [s.outcome.kept for s in shots if s.outcome.label is Label.MISS]
    return 1 - float(np.mean(kept))


def rows(
    experiment: str, shots: list[Compared], methods: dict[str, SpotFinding]
) -> list[str]:
    """Rows of the table: the network, and each method of spot finding of the shots."""
    positive = np.array([s.outcome.label is not Label.MISS for s in shots])
    specificity = network_specificity(shots)
    seconds = np.median([s.seconds for s in shots], axis=0)

    def row(method: str, scores: np.ndarray, *others: str) -> str:
        rate = sensitivity_at(specificity, scores, positive)
        cells = (
            experiment,
            method,
            f"{area_under_curve(scores, positive):.3f}",
            _percent(rate, int(positive.sum())),
            *others,
        )
        return f"| {' | '.join(cells)} |"

    scores = keep_score(np.array([s.outcome.probabilities for s in shots]))
    kept = np.array([s.outcome.kept for s in shots])
    at_cut = _at_cut(kept, positive)
    lines = [row("default model", scores, at_cut, "-", f"{seconds[0]:.3f}")]
    for i, (method, finding) in enumerate(methods.items()):
        counts = np.array([s.counts[i] or 0 for s in shots])
        gave_up = np.mean([s.counts[i] is None for s in shots])
        at_cut = "-"
        if finding.min_spots is not None:
            at_cut = _at_cut(counts >= finding.min_spots, positive)
        given_up, time_taken = f"{100 * gave_up:.0f}", f"{seconds[i + 1]:.3f}"
        lines.append(row(method, counts, at_cut, given_up, time_taken))
    return lines


def describe(finding: SpotFinding) -> str:
    """The parameters and the cut in words."""
    return (
        f"{finding.algorithm} gain={finding.gain:g} "
        f"global_threshold={finding.global_threshold:g} "
        f"sigma_strong={finding.sigma_strong:g} "
        f"min_spot_size={finding.min_spot_size}, cut at {finding.min_spots} spots"
    )


def _percent(rate: float, total: int) -> str:
    if np.isnan(rate):
        return "none"
    return f"{100 * rate:.1f} {interval(round(rate * total), total)}"


def _at_cut(kept: np.ndarray, positive: np.ndarray) -> str:
    return f"{_rate(kept[positive])} / {_rate(~kept[~positive])}"


def _rate(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f}" if len(right) else "-"


_classifier: Classifier
_findings: Sequence[SpotFinding]


def _start(model: Model | None, findings: Sequence[SpotFinding]) -> None:
    global _classifier, _findings
    torch.set_num_threads(1)
    _findings = findings
    if model is not None:
        _classifier = make_classifier(model, "cpu")


def _map(
    function: Callable[[Job], Any], jobs: list[Job], arguments: tuple, title: str
) -> list:
    answers = map_on_workers(
        function, jobs, os.cpu_count(), _start, arguments, chunk=4, fork=False
    )
    return list(tqdm(answers, total=len(jobs), desc=title, disable=None))


def _count_in_grid(job: Job) -> tuple[bool, np.ndarray]:
    """Whether a shot is positive, and its spots: int (parameters, sizes)."""
    shot = simulate_job(job)
    counts = np.zeros((len(_findings), len(SPOT_SIZES)), dtype=int)
    with _as_still(shot, job[0]) as still:
        for i, finding in enumerate(_findings):
            areas = spot_areas(still, finding, [shot.mask])
            if areas is not None:
                counts[i] = [np.count_nonzero(areas >= size) for size in SPOT_SIZES]
    return shot.label is not Label.MISS, counts


def _compare_on_shot(job: Job) -> Compared:
    shot = simulate_job(job)
    start = time.process_time()
    outcome = judge_shot(_classifier, job, shot)
    seconds = [time.process_time() - start]
    counts = []
    with _as_still(shot, job[0]) as still:
        for finding in _findings:
            start = time.process_time()
            counts.append(count_spots(still, finding, [shot.mask]))
            seconds.append(time.process_time() - start)
    return Compared(outcome, tuple(counts), tuple(seconds))


@contextlib.contextmanager
def _as_still(shot: Shot, experiment: str) -> Iterator[Any]:
    """A shot as users have it: dxtbx's, from a file in the layout of CXIDB-76."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.h5"
        write_shots(path, find_experiment(experiment), [shot], 1)
        still = open_stills(path)
        still[0].imageset.get_raw_data(0)  # read once; it is kept
        yield still


def main(n_shots: int) -> None:
    """Print the table, and what the tuned parameters are.

    Raises ValueError where there are too few shots to have hits and misses.
    """
    if n_shots < FEWEST_SHOTS:
        raise ValueError(f"{n_shots} shots are too few; give {FEWEST_SHOTS} or more")
    model = load_model("default")
    n_tuning = min(n_shots, TUNING_SHOTS)
    print(
        f"{n_shots} simulated shots of each experiment, {n_tuning} others for tuning.\n"
        "Positive: Hit or Maybe by the visible spots of the simulation.\n"
        "Seconds are medians of processor time, without simulating and reading.\n\n"
        "| experiment | method | AUC | sensitivity at the model's specificity, % "
        "| sensitivity / specificity at its own cut, % | gave up, % | s a frame |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    tuned = {}
    for i, (name, jobs) in enumerate(plan(list(EXPERIMENTS), n_shots, SEED).items()):
        tuning = tune(name, n_tuning, TUNING_SEED + i)
        chosen = (preset("default"), preset(name), tuning.finding)
        shots = compare(model, jobs, chosen)
        tuned[name] = tuning.with_cut(network_specificity(shots))
        methods = dict(zip(METHODS, (*chosen[:2], tuned[name]), strict=True))
        print(*rows(name, shots, methods), sep="\n", flush=True)
    print("\nTuned parameters:\n")
    for name, finding in tuned.items():
        print(f"- {name}: {describe(finding)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SHOTS)
