"""How good a model is on fresh simulated shots, as in Table 3 and beyond.

Run as ``python -m dials_cnn_screen.studies.evaluate_models [MODEL [NAME ...]]``, with
``--shots 100`` for so many of each instead of 600. Shots are of the five experiments of
Table 1, in the shares of Hit, Maybe and Miss of the deposited data, or of those that
are named; the name of a detector family stands for random experiments on its detectors.
No seed is one of training.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import (
    area_under_curve,
    calibration_error,
    sensitivity_at,
)
from dials_cnn_screen.labels.confusion import confusion_counts, success_rate
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.simulation.detector_families import DETECTOR_FAMILIES
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import (
    Job,
    find_experiment,
    plan_random_experiments,
)
from dials_cnn_screen.simulation.run import plan_run, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.studies.eye_tables import (
    draw_all,
    print_bounds,
    print_eyes,
)
from dials_cnn_screen.studies.outcomes import SEED, Outcome, classify_shot, map_jobs
from dials_cnn_screen.studies.published import TABLE_3
from dials_cnn_screen.util.intervals import format_percent

SHOTS = 600  # of each experiment, as many as the paper's test splits
# Where sensitivities are compared: by hand, that of the paper's network of LG36.
SPECIFICITY = 0.98
# Hits with as many spots as this or fewer are weak: by hand.
WEAK_HIT = 20
# Of the calibration error by chance alone: by hand.
_CHANCE_DRAWS = 100
# Sensitivity and specificity in percent of the paper's networks, each trained and
# tested on one experiment by expert labels.
PUBLISHED = {name: network for name, (network, _) in TABLE_3.items()}


def plan(names: Sequence[str], n_shots: int, seed: int) -> dict[str, list[Job]]:
    """Shots of each of the experiments and detector families of these names.

    Those of the five experiments of Table 1 are in the deposited shares of the classes.

    Raises:
        ValueError: There is no experiment or detector family of a name.
    """
    plans = {}
    for name in names:
        if name in DETECTOR_FAMILIES:
            plans[name] = plan_random_experiments(n_shots, seed, [name])
            continue
        if name not in EXPERIMENTS:
            known = (*EXPERIMENTS, *DETECTOR_FAMILIES)
            raise ValueError(f"'{name}': not {', '.join(known)}")
        number = list(EXPERIMENTS).index(name)
        images = EXPERIMENTS[name].images
        plans[name] = plan_run(name, n_shots, images, seed + number)
    return plans


def evaluate(model: Model, jobs: Sequence[Job], title: str) -> list[Outcome]:
    """Simulate shots and classify them, on all processors; title: of the bar."""
    return map_jobs(_evaluate_job, model, jobs, title)


def _evaluate_job(predictor: Predictor, job: Job) -> Outcome:
    return evaluate_shot(predictor, job, simulate_job(job))


def evaluate_shot(predictor: Predictor, job: Job, shot: Shot) -> Outcome:
    """Classify the shot of a job."""
    name, _, seed = job
    return Outcome(
        n_visible=len(shot.visible),
        fourth_best=_fourth_best(_in_sight(shot, name), seed),
        label=shot.label,
        kind=shot.kind,
        prediction=classify_shot(predictor, job, shot),
    )


def _in_sight(shot: Shot, experiment: str) -> NDArray[np.float64]:
    """The significance of the spots where the experiment's expert looks."""
    drawn = find_experiment(experiment)
    slow, fast = (shot.spots - drawn.detector.beam_centre).T
    return shot.significance[drawn.eye.looks_at(slow, fast)]


def _fourth_best(significance: NDArray[np.float64], seed: int) -> float:
    """What tells a Maybe from a Miss: the fourth highest as measured, 0 without."""
    noise = np.random.default_rng(seed).normal(size=len(significance))
    measured = np.where(significance > 0, significance + noise, 0)
    return float(np.sort(np.append(measured, np.zeros(MAYBE_SPOTS)))[-MAYBE_SPOTS])


def print_table(groups: dict[str, list[Outcome]]) -> None:
    """A row for each group of shots: how many are kept and rejected rightly."""
    print(
        "| shots | Hit, Maybe, Miss | Hit or Maybe kept, % | Miss rejected, % "
        f"| AUC | kept at {SPECIFICITY:.0%} rejected, % | upper limit of that, % "
        "| three classes right, % | calibration error | of probabilities that hold "
        "| out of distribution, % "
        "| Table 3, % |"
    )
    print("|---" * 12 + "|")
    for name, outcomes in groups.items():
        counts = confusion_counts(
            [o.label for o in outcomes], [o.prediction.label for o in outcomes]
        )
        p, hits, kept = _p_keep(outcomes), _hits(outcomes), _kept(outcomes)
        fourth_best = np.array([o.fourth_best for o in outcomes])
        ood = [bool(o.prediction.out_of_distribution) for o in outcomes]
        published = " / ".join(str(x) for x in PUBLISHED.get(name, ()))
        print(
            f"| {name} | {', '.join(str(n) for n in counts.sum(axis=1))} "
            f"| {_percent(kept, hits)} | {_percent(~kept, ~hits)} "
            f"| {area_under_curve(p, hits):.3f} "
            f"| {100 * sensitivity_at(SPECIFICITY, p, hits):.1f} "
            f"| {100 * sensitivity_at(SPECIFICITY, fourth_best, hits):.1f} "
            f"| {success_rate(counts):.1f} "
            f"| {calibration_error(p, hits):.3f} | {chance_error(p):.3f} "
            f"| {100 * np.mean(ood):.1f} | {published} |",
            flush=True,
        )


def chance_error(p: NDArray[np.float64]) -> float:
    """Mean calibration error of shots that are hits by just these chances (n,).

    So few shots differ from their chances: what is below it is no error.
    """
    rng = np.random.default_rng(SEED)
    drawn = [rng.random(len(p)) < p for _ in range(_CHANCE_DRAWS)]
    return float(np.mean([calibration_error(p, hits) for hits in drawn]))


def print_kinds(outcomes: Sequence[Outcome]) -> None:
    """What is kept of strong and weak Hits, of Maybes, and of each kind of Miss."""
    kinds: dict[str, list[bool]] = {}
    for o in sorted(outcomes, key=lambda o: (o.label, o.kind)):
        kinds.setdefault(_kind(o), []).append(o.kept)
    print("\n| kind | shots | kept, % |\n|---|---|---|")
    for kind, kept in kinds.items():
        print(f"| {kind} | {len(kept)} | {format_percent(sum(kept), len(kept))} |")


def print_reliability(outcomes: Sequence[Outcome]) -> None:
    """How often shots are Hit or Maybe, by their predicted P(Hit) + P(Maybe)."""
    p, hits = _p_keep(outcomes), _hits(outcomes)
    print(
        "\n| P(Hit) + P(Maybe) | shots | mean, % | Hit or Maybe, % |\n|---|---|---|---|"
    )
    for low, high in itertools.pairwise(np.linspace(0, 1, 11)):
        inside = (p >= low) & ((p < high) | (high == 1))
        if inside.any():
            print(
                f"| {low:.1f}-{high:.1f} | {inside.sum()} "
                f"| {100 * p[inside].mean():.1f} | {_percent(hits, inside)} |"
            )


def _p_keep(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    return np.array([o.prediction.p_keep for o in outcomes])


def _hits(outcomes: Sequence[Outcome]) -> NDArray[np.bool_]:
    """Which shots are Hit or Maybe."""
    return np.array([o.label is not Label.MISS for o in outcomes])


def _kept(outcomes: Sequence[Outcome]) -> NDArray[np.bool_]:
    return np.array([o.kept for o in outcomes])


def _percent(chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> str:
    return format_percent(int((chosen & among).sum()), int(among.sum()))


def _kind(o: Outcome) -> str:
    if o.label is Label.HIT:
        weak = f"{HIT_SPOTS}-{WEAK_HIT}"
        return f"Hit, {weak if o.n_visible <= WEAK_HIT else f'over {WEAK_HIT}'} spots"
    return o.label.title if o.label is Label.MAYBE else f"Miss: {o.kind}"


def main(model_name: str, names: Sequence[str], n_shots: int) -> None:
    """Print the tables.

    Args:
        model_name: A model file, or a model that comes with the package.
        names: Of experiments and detector families; none: the five of Table 1.
        n_shots: Of each of them.
    """
    model = load_model(model_name)
    plans = plan(names or list(EXPERIMENTS), n_shots, SEED)
    groups = {name: evaluate(model, jobs, name) for name, jobs in plans.items()}
    everything = [shot for outcomes in groups.values() for shot in outcomes]
    print_table({**groups, "all": everything} if len(groups) > 1 else groups)
    eyes = draw_all(groups)
    if any(eyes.values()):
        print_eyes(eyes)
    print_kinds(everything)
    print_reliability(everything)
    print_bounds(groups, eyes, model.calibration)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="default")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--shots", type=int, default=SHOTS, help="of each")
    given = parser.parse_args()
    main(given.model, given.names, given.shots)
