"""How good a model is on fresh simulated shots, as in Table 3 and beyond.

Run as ``python -m dials_cnn_screen.studies.evaluate_models [MODEL [NAME ...]]``. Shots
are of the five experiments of Table 1, in the shares of Hit, Maybe and Miss of the
deposited data, or of those that are named; the name of a family of detectors stands for
random experiments on these. No seed is one of training.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from dials_cnn_screen.evaluation.metrics import (
    area_under_curve,
    calibration_error,
    sensitivity_at,
)
from dials_cnn_screen.util.intervals import wilson_interval
from dials_cnn_screen.labels.confusion import (
    confusion_counts,
    hit_or_miss,
    row_percent,
    success_rate,
)
from dials_cnn_screen.labels.label import MAYBE_SPOTS, Label
from dials_cnn_screen.models.classifier import Classifier, make_classifier
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.screening.decision import threshold_for_hit_loss
from dials_cnn_screen.labels.probabilities import classify, keep_score, probabilities
from dials_cnn_screen.simulation.detector_families import DETECTOR_FAMILIES
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import (
    find_experiment,
    plan_random_experiments,
)
from dials_cnn_screen.simulation.run import Job, plan_run, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.spots.out_of_distribution import is_unlike
from dials_cnn_screen.studies.published import TABLE_3
from dials_cnn_screen.util.workers import map_on_workers

SHOTS = 600  # of each experiment, as many as the paper's test parts
SEED = 31_000
# Where sensitivities are compared.
SPECIFICITY = 0.98
# Values of decision.max_hit_loss that are tried.
BOUNDS = (0.01, 0.05)
# Hits with as many spots as this or fewer are weak.
WEAK_HIT = 20
# Sensitivity and specificity in percent of the paper's networks, each trained and
# tested on one experiment by expert labels.
PUBLISHED = {name: network for name, (network, _) in TABLE_3.items()}


@dataclass(frozen=True)
class Outcome:
    """One shot and what the model says of it.

    n_visible: number of visible spots. fourth: significance of the fourth best spot as
    one would measure it who knew all places, that is with the noise of one deviation.
    kind: of shot, as in Shot. probabilities: (3,). unlike: whether the shot is unlike
    what the model was trained on.
    """

    n_visible: int
    fourth: float
    label: Label
    kind: str
    probabilities: np.ndarray
    unlike: bool

    @property
    def kept(self) -> bool:
        """Whether it is kept at the threshold 0.5."""
        return self.unlike or classify(self.probabilities) is not Label.MISS


def plan(names: Sequence[str], n_shots: int, seed: int) -> dict[str, list[Job]]:
    """Shots of each of the experiments and families of detectors of these names.

    Those of the five experiments of Table 1 are in the deposited shares of the classes.
    Raises ValueError for other names.
    """
    plans = {}
    for name in names:
        if name in DETECTOR_FAMILIES:
            plans[name] = plan_random_experiments(n_shots, seed, [name])
            continue
        if name not in EXPERIMENTS:
            raise ValueError(
                f"'{name}': not {', '.join((*EXPERIMENTS, *DETECTOR_FAMILIES))}"
            )
        number = list(EXPERIMENTS).index(name)
        images = EXPERIMENTS[name].images
        plans[name] = plan_run(name, n_shots, images, seed + number)
    return plans


def judge(model: Model, jobs: list[Job], title: str) -> list[Outcome]:
    """Simulate shots and classify them, on all cores."""
    outcomes = map_on_workers(
        _judge_shot, jobs, os.cpu_count(), _start, (model,), chunk=8, fork=False
    )
    return list(tqdm(outcomes, total=len(jobs), desc=title, disable=None))


def print_table(groups: dict[str, list[Outcome]]) -> None:
    """A row for each group of shots: how many are kept and rejected rightly."""
    print(
        "| shots | Hit, Maybe, Miss | Hit or Maybe kept, % | Miss rejected, % "
        "| AUC | kept at 98% rejected, % | limit of that, % | three classes right, % "
        "| calibration error | unlike, % | Table 3, % |"
    )
    print("|---" * 11 + "|")
    for name, outcomes in groups.items():
        labels = np.array([o.label for o in outcomes])
        p = np.array([o.probabilities for o in outcomes])
        fourth = np.array([o.fourth for o in outcomes])
        counts = confusion_counts(labels, [classify(row) for row in p])
        percent = row_percent(hit_or_miss(counts))
        keep_scores, hits = _scores(outcomes)
        published = " / ".join(str(x) for x in PUBLISHED.get(name, ()))
        print(
            f"| {name} | {', '.join(str(n) for n in counts.sum(axis=1))} "
            f"| {percent[0, 0]:.1f} {_interval(hits & _kept(outcomes), hits)} "
            f"| {percent[1, 1]:.1f} {_interval(~hits & ~_kept(outcomes), ~hits)} "
            f"| {area_under_curve(keep_scores, hits):.3f} "
            f"| {100 * sensitivity_at(SPECIFICITY, keep_scores, hits):.1f} "
            f"| {100 * sensitivity_at(SPECIFICITY, fourth, hits):.1f} "
            f"| {success_rate(counts):.1f} "
            f"| {calibration_error(keep_scores, hits):.3f} "
            f"| {100 * np.mean([o.unlike for o in outcomes]):.1f} | {published} |",
            flush=True,
        )


def print_kinds(outcomes: list[Outcome]) -> None:
    """What is kept of strong and weak hits, of maybes, and of each kind of miss."""
    kinds: dict[str, list[bool]] = {}
    for o in sorted(outcomes, key=lambda o: (o.label, o.kind)):
        kinds.setdefault(_kind(o), []).append(o.kept)
    print("\n| kind | shots | kept, % |\n|---|---|---|")
    for kind, kept in kinds.items():
        kept = np.array(kept)
        everything = np.ones(len(kept), bool)
        print(
            f"| {kind} | {len(kept)} | {100 * kept.mean():.1f} "
            f"{_interval(kept, everything)} |"
        )


def print_reliability(outcomes: list[Outcome]) -> None:
    """How often shots are Hit or Maybe that are given a chance of it."""
    p, hits = _scores(outcomes)
    print(
        "\n| P(Hit) + P(Maybe) | shots | mean, % | Hit or Maybe, % |\n|---|---|---|---|"
    )
    for low, high in itertools.pairwise(np.linspace(0, 1, 11)):
        inside = (p >= low) & ((p < high) | (high == 1))
        if inside.any():
            print(
                f"| {low:.1f}-{high:.1f} | {inside.sum()} "
                f"| {100 * p[inside].mean():.1f} "
                f"| {100 * hits[inside].mean():.1f} "
                f"{_interval(hits & inside, inside)} |"
            )


def print_bounds(groups: dict[str, list[Outcome]], hit_scores: np.ndarray) -> None:
    """What decision.max_hit_loss promises and what is lost, by the model's own hits."""
    print("\n| shots | max_hit_loss | threshold | lost, % | Miss rejected, % |")
    print("|---|---|---|---|---|")
    for name, outcomes in groups.items():
        p, hits = _scores(outcomes)
        for bound in BOUNDS:
            threshold = threshold_for_hit_loss(hit_scores, bound)
            lost = (p < threshold) & ~np.array([o.unlike for o in outcomes])
            print(
                f"| {name} | {bound} | {threshold:.3f} "
                f"| {100 * lost[hits].mean():.1f} {_interval(lost & hits, hits)} "
                f"| {100 * lost[~hits].mean():.1f} {_interval(lost & ~hits, ~hits)} |"
            )


def _scores(outcomes: list[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """P(Hit) + P(Maybe) of the shots, and which of them are Hit or Maybe."""
    p = keep_score(np.array([o.probabilities for o in outcomes]))
    return p, np.array([o.label for o in outcomes]) != Label.MISS


def _kind(o: Outcome) -> str:
    if o.label is Label.HIT:
        weak = o.n_visible <= WEAK_HIT
        return f"Hit, {10}-{WEAK_HIT} spots" if weak else f"Hit, over {WEAK_HIT} spots"
    return "Maybe" if o.label is Label.MAYBE else f"Miss: {o.kind}"


def _kept(outcomes: Iterable[Outcome]) -> np.ndarray:
    return np.array([o.kept for o in outcomes])


def _interval(right: np.ndarray, among: np.ndarray) -> str:
    return interval(int(right.sum()), int(among.sum()))


def interval(count: int, total: int) -> str:
    """The 95% interval of a rate, in percent and brackets."""
    low, high = wilson_interval(count, total)
    return f"({100 * low:.0f}-{100 * high:.0f})"


_classifier: Classifier


def _start(model: Model) -> None:
    global _classifier
    _classifier = make_classifier(model, "cpu")


def _judge_shot(job: Job) -> Outcome:
    return judge_shot(_classifier, job, simulate_job(job))


def judge_shot(classifier: Classifier, job: Job, shot: Shot) -> Outcome:
    """Classify the shot of a job."""
    name, _, seed = job
    centre = find_experiment(name).detector.beam_centre
    prepared = classifier.prepare(shot.image.astype(np.float32), shot.mask, centre)
    answer = classifier.answer(prepared)
    return Outcome(
        n_visible=len(shot.visible),
        fourth=_fourth_best(shot.significance, seed),
        label=shot.label,
        kind=shot.kind,
        probabilities=probabilities(answer.scores, classifier.temperature),
        unlike=is_unlike(answer.strangeness) is True,
    )


def _fourth_best(significance: np.ndarray, seed: int) -> float:
    """What tells a Maybe from a Miss: the fourth highest as measured, 0 without."""
    noise = np.random.default_rng(seed).normal(size=len(significance))
    measured = np.where(significance > 0, significance + noise, 0)
    return float(np.sort(np.append(measured, np.zeros(MAYBE_SPOTS)))[-MAYBE_SPOTS])


def main(model_path: str, names: Sequence[str]) -> None:
    """Print the tables."""
    model = load_model(model_path)
    plans = plan(names or list(EXPERIMENTS), SHOTS, SEED)
    groups = {name: judge(model, jobs, name) for name, jobs in plans.items()}
    print_table(groups)
    everything = [o for outcomes in groups.values() for o in outcomes]
    print_kinds(everything)
    print_reliability(everything)
    print_bounds(groups, model.calibration.hit_scores)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else "default", sys.argv[2:])
