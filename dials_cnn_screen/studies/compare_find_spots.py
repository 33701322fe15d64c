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
from typing import Any, TypeVar

import numpy as np
import torch  # before DIALS: see threads.py
from numpy.typing import NDArray

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
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import Job, find_experiment
from dials_cnn_screen.simulation.run import plan_run, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.studies.evaluate_models import (
    SHOTS,
    evaluate_shot,
    plan,
)
from dials_cnn_screen.studies.outcomes import SEED, Outcome
from dials_cnn_screen.util.intervals import format_percent
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import map_on_workers

State = TypeVar("State")
Result = TypeVar("Result")

METHODS = ("find_spots, default", "find_spots, Table 2", "find_spots, tuned")
# With fewer there may be no hit among them.
FEWEST_SHOTS = 12
# Of each experiment, half of them misses: by hand, what a user may label.
TUNING_SHOTS = 100
TUNING_SEED = SEED + 1000
# Tried in tuning: algorithm, gain and global threshold in units of Table 2's, sigma
# strong (None: Table 2's). By hand; few, as each takes find_spots a while.
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
# And with each of these smallest sizes of a spot, pixels, which cost nothing: by hand.
SPOT_SIZES = (1, 2, 3, 6)


@dataclass(frozen=True)
class Tuning:
    """Parameters tuned on shots of an experiment, and the spots found there.

    Attributes:
        finding: The parameters.
        counts: int (n,), spots of each shot.
        positive: bool (n,), whether it is a Hit or Maybe.
    """

    finding: SpotFinding
    counts: NDArray[np.int64]
    positive: NDArray[np.bool_]

    def with_cut(self, specificity: float) -> SpotFinding:
        """The parameters with the lowest cut that has this specificity here."""
        cut = cut_at_specificity(specificity, self.counts, self.positive)
        return replace(self.finding, min_spots=cut)


@dataclass(frozen=True)
class Comparison:
    """One shot: the model's prediction, and the spots by each kind of spot finding.

    Attributes:
        outcome: Of the model.
        counts: Number of spots by each kind; None where find_spots gave up.
        seconds: Of processor time, the model's first, reading left out.
    """

    outcome: Outcome
    counts: tuple[int | None, ...]
    seconds: tuple[float, ...]


def grid(table_2: SpotFinding) -> list[SpotFinding]:
    """What is tried in tuning, with spots of one pixel and more.

    Args:
        table_2: The parameters of Table 2 for the experiment.
    """
    return [
        replace(
            table_2,
            algorithm=algorithm,
            gain=gain * table_2.gain,  # type: ignore[operator]  # it has one
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
    shots = _map(_count_in_grid, jobs, _start_counting, (findings,), "tuning")
    positive = np.array([positive for positive, _ in shots])
    counts = np.array([counts for _, counts in shots])  # (n, findings, sizes)
    areas = [
        [area_under_curve(column, positive) for column in of_finding.T]
        for of_finding in counts.swapaxes(0, 1)
    ]
    i, j = np.unravel_index(np.argmax(areas), np.shape(areas))
    best = replace(findings[i], min_spot_size=SPOT_SIZES[j])
    return Tuning(best, counts[:, i, j], positive)


def compare(
    model: Model, jobs: Sequence[Job], findings: Sequence[SpotFinding]
) -> list[Comparison]:
    """Simulate shots of one experiment; classify each, and count its spots."""
    return _map(
        _compare_on_shot, jobs, _start_comparing, (model, findings), "comparing"
    )


def model_specificity(shots: Sequence[Comparison]) -> float:
    """Fraction of the misses that the model rejects at its threshold."""
    kept = [s.outcome.kept for s in shots if s.outcome.label is Label.MISS]
    return 1 - float(np.mean(kept))


def rows(
    experiment: str, shots: Sequence[Comparison], methods: dict[str, SpotFinding]
) -> list[str]:
    """Rows of the table: the model, and each method of spot finding of the shots."""
    positive = np.array([s.outcome.label is not Label.MISS for s in shots])
    specificity = model_specificity(shots)
    seconds = np.median([s.seconds for s in shots], axis=0)

    def row(method: str, scores: NDArray, *others: str) -> str:
        rate = sensitivity_at(specificity, scores, positive)
        cells = (
            experiment,
            method,
            f"{area_under_curve(scores, positive):.3f}",
            _percent(rate, int(positive.sum())),
            *others,
        )
        return f"| {' | '.join(cells)} |"

    scores = np.array([s.outcome.prediction.p_keep for s in shots])
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


def format_finding(finding: SpotFinding) -> str:
    """The parameters and the cut, as people read them."""
    return (
        f"{finding.algorithm} gain={finding.gain:g} "
        f"global_threshold={finding.global_threshold:g} "
        f"sigma_strong={finding.sigma_strong:g} "
        f"min_spot_size={finding.min_spot_size}, cut at {finding.min_spots} spots"
    )


def _percent(rate: float, total: int) -> str:
    # Between two cuts the count is not whole.
    return "none" if np.isnan(rate) else format_percent(rate * total, total)


def _at_cut(kept: NDArray[np.bool_], positive: NDArray[np.bool_]) -> str:
    return f"{_rate(kept[positive])} / {_rate(~kept[~positive])}"


def _rate(right: NDArray[np.bool_]) -> str:
    return f"{100 * right.mean():.1f}" if len(right) else "-"


def _map(
    work: Callable[[State, Job], Result],
    jobs: Sequence[Job],
    start: Callable[..., State],
    arguments: tuple,
    title: str,
) -> list[Result]:
    results = map_on_workers(
        work, jobs, os.cpu_count() or 1, start, arguments, chunk=4, fork=False
    )
    return list(track(results, f"{jobs[0][0]}: {title}", len(jobs), "shot"))


def _start_counting(findings: Sequence[SpotFinding]) -> Sequence[SpotFinding]:
    return findings


def _count_in_grid(
    findings: Sequence[SpotFinding], job: Job
) -> tuple[bool, NDArray[np.int64]]:
    """Whether a shot is positive, and its spots: (findings, sizes)."""
    shot = simulate_job(job)
    counts = np.zeros((len(findings), len(SPOT_SIZES)), dtype=np.int64)
    with as_still(shot, job[0]) as still:
        for i, finding in enumerate(findings):
            areas = spot_areas(still, finding, [shot.mask])
            if areas is not None:
                counts[i] = [np.count_nonzero(areas >= size) for size in SPOT_SIZES]
    return shot.label is not Label.MISS, counts


def _start_comparing(
    model: Model, findings: Sequence[SpotFinding]
) -> tuple[Predictor, Sequence[SpotFinding]]:
    return model.predictor(), _start_counting(findings)


def _compare_on_shot(
    state: tuple[Predictor, Sequence[SpotFinding]], job: Job
) -> Comparison:
    predictor, findings = state
    shot = simulate_job(job)
    start = time.process_time()
    outcome = evaluate_shot(predictor, job, shot)
    seconds = [time.process_time() - start]
    counts = []
    with as_still(shot, job[0]) as still:
        for finding in findings:
            start = time.process_time()
            counts.append(count_spots(still, finding, [shot.mask]))
            seconds.append(time.process_time() - start)
    return Comparison(outcome, tuple(counts), tuple(seconds))


@contextlib.contextmanager
def as_still(shot: Shot, experiment: str) -> Iterator[Any]:
    """A shot as users have it: dxtbx's, from a file in the layout of CXIDB-76."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.h5"
        write_shots(path, find_experiment(experiment), [shot], 1)
        still: Any = open_stills(path)
        still[0].imageset.get_raw_data(0)  # read once; it is kept
        yield still


def main(n_shots: int) -> None:
    """Print the table, and what the tuned parameters are.

    Raises:
        ValueError: There are too few shots to have hits and misses.
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
        "| sensitivity / specificity at its own cut, % | gave up, % | s per image |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    tuned = {}
    for i, (name, jobs) in enumerate(plan(list(EXPERIMENTS), n_shots, SEED).items()):
        tuning = tune(name, n_tuning, TUNING_SEED + i)
        chosen = (preset("default"), preset(name), tuning.finding)
        shots = compare(model, jobs, chosen)
        tuned[name] = tuning.with_cut(model_specificity(shots))
        methods = dict(zip(METHODS, (*chosen[:2], tuned[name]), strict=True))
        print(*rows(name, shots, methods), sep="\n", flush=True)
    print("\nTuned parameters:\n")
    for name, finding in tuned.items():
        print(f"- {name}: {format_finding(finding)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SHOTS)
