"""What eyes that are fitted to a few labels keep, and how bounds on lost hits hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import calibration_error
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.screening.calibration import CalibrationHits, find_hits
from dials_cnn_screen.screening.decision import Decision, LossOf
from dials_cnn_screen.screening.eye import ChosenEye, fit_to_predictions
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.outcomes import PAPER_RULE, SEED, Outcome, is_kept

# Labels that an eye is fitted to, and how often they are drawn: by hand.
EYE_LABELS, EYE_DRAWS = (20, 100), 20
# Values of decision.max_hit_loss that are tried, by hand.
BOUNDS = (0.01, 0.05)
# Misses that nobody wants to keep.
_EMPTY = ("blank", "solvent")


@dataclass(frozen=True, eq=False)
class Draw:
    """An eye that is fitted to some of the shots, and what it says of the others.

    Attributes:
        chosen: The eye.
        others: The other shots.
        seen: Predictions for them by the eye.
    """

    chosen: ChosenEye
    others: Sequence[Outcome]
    seen: Sequence[Prediction]


# By the name of the shots; then by number of labels and where the eye looks.
Eyes = dict[str, dict[tuple[int, str], list[Draw]]]


def regions(name: str) -> dict[str, tuple[int, int, int, int] | None]:
    """Where an eye may look on the shots of this name: at all, and as the expert did.

    Experts of random experiments look at all.
    """
    found: dict[str, tuple[int, int, int, int] | None] = {"all": None}
    if name in EXPERIMENTS:
        above, below, beside = EXPERIMENTS[name].eye.window
        slow, fast = EXPERIMENTS[name].detector.beam_centre
        found["window"] = (
            int(fast - beside),
            int(fast + beside) + 1,
            int(slow - above),
            int(slow + below) + 1,
        )
    return found


def ways_to_look(
    name: str, n_shots: int
) -> Iterator[tuple[int, str, tuple[int, int, int, int] | None]]:
    """Number of labels, and where an eye looks; half of the shots are left at least."""
    numbers = [n for n in EYE_LABELS if 2 * n <= n_shots]
    for n, (place, region) in itertools.product(numbers, regions(name).items()):
        yield n, place, region


def draw_eyes(
    outcomes: Sequence[Outcome],
    n_labels: int,
    region: tuple[int, int, int, int] | None,
) -> Iterator[Draw]:
    """Eyes that are fitted to random choices of shots."""
    rng = np.random.default_rng(SEED)
    for _ in range(EYE_DRAWS):
        order = rng.permutation(len(outcomes))
        labelled = [outcomes[i] for i in order[:n_labels]]
        others = [outcomes[i] for i in order[n_labels:]]
        labels = [shot.label for shot in labelled]
        predictions = [shot.prediction for shot in labelled]
        eye = fit_to_predictions(predictions, labels, "a draw", region).eye
        p_keep = [prediction.seen_by(eye).p_keep for prediction in predictions]
        known = list(zip(labels, p_keep, strict=True))
        seen = [shot.prediction.seen_by(eye) for shot in others]
        yield Draw(ChosenEye(eye, labelled=known), others, seen)


def draw_all(groups: dict[str, list[Outcome]]) -> Eyes:
    """Eyes for all groups of shots; none for models that look for no spots."""
    shots = itertools.chain(*groups.values())
    if any(shot.prediction.candidates is None for shot in shots):
        return {name: {} for name in groups}
    return {
        name: {
            (n, place): list(draw_eyes(outcomes, n, region))
            for n, place, region in ways_to_look(name, len(outcomes))
        }
        for name, outcomes in groups.items()
    }


def print_eyes(eyes: Eyes) -> None:
    """What is kept and rejected rightly by eyes: means of draws of labelled shots."""
    print(
        "\n| shots | labels | eye looks at | Hit or Maybe kept, % "
        "| to be expected, % | Miss rejected, % | three classes right, % "
        f"| calibration error |\n{'|---' * 8}|"
    )
    for name, by_way in eyes.items():
        for (n, place), draws in by_way.items():
            figures = [eye_figures(draw) for draw in draws]
            *fractions, error = np.mean(figures, axis=0)
            cells = [*(f"{100 * x:.1f}" for x in fractions), f"{error:.3f}"]
            print(f"| {name} | {n} | {place} | {' | '.join(cells)} |", flush=True)


def eye_figures(draw: Draw) -> tuple[float, float, float, float, float]:
    """How right an eye is.

    Returns:
        Sensitivity, that to be expected by its probabilities, specificity, success rate
        and calibration error.
    """
    labels = np.array([shot.label for shot in draw.others])
    classes = np.array([prediction.label for prediction in draw.seen])
    kept = _kept(draw.seen, PAPER_RULE)
    hits = labels != Label.MISS
    p = np.array([prediction.p_keep for prediction in draw.seen])
    return (
        kept[hits].mean(),
        p[kept].sum() / p.sum(),
        1 - kept[~hits].mean(),
        (classes == labels).mean(),
        calibration_error(p, hits),
    )


def print_bounds(
    groups: dict[str, list[Outcome]], eyes: Eyes, calibration: Calibration
) -> None:
    """What decision.max_hit_loss promises, and what is lost and rejected.

    By the model's own calibration hits; by those of eyes, means of draws.

    Args:
        groups: Shots by name.
        eyes: Of the same shots.
        calibration: Of the model that classified them.
    """
    print(
        "\n| shots | classes by | loss of | max_hit_loss | threshold | lost, % "
        f"| Miss rejected, % | blank or solvent rejected, % |\n{'|---' * 8}|"
    )
    has_sure = calibration.sure_scores is not None
    known = list(LossOf) if has_sure else [LossOf.HITS_AND_MAYBES]
    for name, outcomes in groups.items():
        own = Draw(ChosenEye(), outcomes, [shot.prediction for shot in outcomes])
        ways = {"the model": [own]}
        if calibration.simulated is not None:
            for (n, place), draws in eyes[name].items():
                ways[f"an eye of {n} labels, {place}"] = draws
        for (by, draws), loss_of in itertools.product(ways.items(), known):
            hits = [find_hits(draw.chosen, calibration, loss_of) for draw in draws]
            for bound in BOUNDS:
                rows = [
                    bound_figures(draw, found, loss_of, bound)
                    for draw, found in zip(draws, hits, strict=True)
                ]
                threshold, *fractions = np.nanmean(rows, axis=0)
                cells = " | ".join(f"{100 * x:.1f}" for x in fractions)
                print(
                    f"| {name} | {by} | {loss_of.text} | {bound} "
                    f"| {threshold:.3f} | {cells} |",
                    flush=True,
                )


def bound_figures(
    draw: Draw, hits: CalibrationHits, loss_of: LossOf, bound: float
) -> list[float]:
    """What a bound on the loss gives, with or without an eye.

    Returns:
        Threshold, and fractions of lost hits, rejected Misses and rejected empty shots,
        NaN where there are none.
    """
    threshold = hits.threshold(bound)
    lost = ~_kept(draw.seen, Decision(threshold))
    counts = np.array([loss_of.counts(shot.label) for shot in draw.others])
    misses = np.array([shot.label is Label.MISS for shot in draw.others])
    empty = misses & np.array([shot.kind in _EMPTY for shot in draw.others])
    fractions = [lost[x].mean() if x.any() else np.nan for x in (counts, misses, empty)]
    return [threshold, *map(float, fractions)]


def _kept(seen: Sequence[Prediction], decision: Decision) -> NDArray[np.bool_]:
    return np.array([is_kept(prediction, decision) for prediction in seen])
