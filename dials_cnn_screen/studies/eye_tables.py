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
from dials_cnn_screen.screening.calibration import hits_of_eye, hits_of_model
from dials_cnn_screen.screening.decision import (
    Decision,
    LossOf,
    threshold_for_hit_loss,
)
from dials_cnn_screen.screening.eye import ChosenEye, fit_to_predictions
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.outcomes import PAPER_RULE, Outcome, is_kept

# Labels that an eye is fitted to, and how often they are drawn: by hand.
EYE_LABELS, EYE_DRAWS = (20, 100), 20
SEED = 31_000  # of the draws
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


def have_candidates(groups: dict[str, list[Outcome]]) -> bool:
    """Whether an eye can look at these shots, since the model looks for spots."""
    shots = itertools.chain(*groups.values())
    return all(shot.prediction.candidates is not None for shot in shots)


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


def print_eyes(groups: dict[str, list[Outcome]]) -> None:
    """What is kept and rejected rightly by eyes: means of draws of labelled shots."""
    print(
        "\n| shots | labels | eye looks at | Hit or Maybe kept, % "
        "| to be expected, % | Miss rejected, % | three classes right, % "
        f"| calibration error |\n{'|---' * 8}|"
    )
    for name, outcomes in groups.items():
        for n, place, region in ways_to_look(name, len(outcomes)):
            draws = [eye_figures(draw) for draw in draw_eyes(outcomes, n, region)]
            *fractions, error = np.mean(draws, axis=0)
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


def print_bounds(groups: dict[str, list[Outcome]], calibration: Calibration) -> None:
    """What decision.max_hit_loss promises, and what is lost and rejected.

    By the model's own calibration hits; by those of eyes, means of draws.

    Args:
        groups: Shots by name.
        calibration: Of the model that classified them.
    """
    print(
        "\n| shots | classes by | loss of | max_hit_loss | threshold | lost, % "
        f"| Miss rejected, % | blank or solvent rejected, % |\n{'|---' * 8}|"
    )
    has_sure = calibration.sure_scores is not None
    known = list(LossOf) if has_sure else [LossOf.HITS_AND_MAYBES]
    for name, outcomes in groups.items():
        for by, draws in _ways(name, outcomes, calibration.simulated is not None):
            for loss_of, bound in itertools.product(known, BOUNDS):
                rows = [
                    bound_figures(draw, calibration, loss_of, bound) for draw in draws
                ]
                threshold, *fractions = np.nanmean(rows, axis=0)
                cells = " | ".join(f"{100 * x:.1f}" for x in fractions)
                print(
                    f"| {name} | {by} | {loss_of.text} | {bound} "
                    f"| {threshold:.3f} | {cells} |",
                    flush=True,
                )


def _ways(
    name: str, outcomes: Sequence[Outcome], has_eyes: bool
) -> Iterator[tuple[str, list[Draw]]]:
    """By what classes may be: a title, and the draws; one for the model itself."""
    own = [shot.prediction for shot in outcomes]
    yield "the model", [Draw(ChosenEye(), outcomes, own)]
    if not has_eyes:
        return
    for n, place, region in ways_to_look(name, len(outcomes)):
        yield f"an eye of {n} labels, {place}", [*draw_eyes(outcomes, n, region)]


def bound_figures(
    draw: Draw, calibration: Calibration, loss_of: LossOf, bound: float
) -> list[float]:
    """What a bound on the loss gives, with or without an eye.

    Returns:
        Threshold, and fractions of lost hits, rejected Misses and rejected empty shots,
        NaN where there are none.
    """
    if draw.chosen.eye is None:
        hits = hits_of_model(calibration, loss_of)
    else:
        hits = hits_of_eye(draw.chosen, calibration, loss_of)
    threshold = threshold_for_hit_loss(hits.scores, bound, hits.weights)
    threshold = min(threshold, hits.highest)
    lost = ~_kept(draw.seen, Decision(threshold))
    counts = np.array([loss_of.counts(shot.label) for shot in draw.others])
    misses = np.array([shot.label is Label.MISS for shot in draw.others])
    empty = misses & np.array([shot.kind in _EMPTY for shot in draw.others])
    fractions = [lost[x].mean() if x.any() else np.nan for x in (counts, misses, empty)]
    return [threshold, *map(float, fractions)]


def _kept(seen: Sequence[Prediction], decision: Decision) -> NDArray[np.bool_]:
    return np.array([is_kept(prediction, decision) for prediction in seen])
