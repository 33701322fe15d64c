"""How many labels an expert's eye takes, beside a fit of the network's head.

Run as ``python -m dials_cnn_screen.studies.eye [EXPERIMENT ...]``; ``--help`` tells how
to make it smaller. Shots of experiments that the default model was not trained on are
labelled by experts who see spots over 5.5, 8, 12 and 20 standard deviations: the
simulation knows how far each spot stands out. The labels are noisy. What an expert sees
differs from shot to shot by DRIFT, and SLIPS of the labels are of a neighbouring class.

The table has the default model as it is, with an eye fitted to some of the labels, and
with its last layers ("head") fitted to 100, with 40 more for validation, as
dials.cnn_train does. All are tested on other shots, with the labels of the expert
without noise. The labels are drawn again for each repeat. "under its interval" counts
the repeats in which a fit is below the 95% interval of the default model's accuracy.

On one core it takes about half an hour; the folder keeps the shots, 45 MB an
experiment.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import score_candidates
from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.labels.probabilities import softmax
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.prediction import Prediction, make_prediction
from dials_cnn_screen.screening.eye import fit_to_predictions
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import map_shots, plan_run, simulate_job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.spots.candidates import Candidates, CandidateSearch, strongest
from dials_cnn_screen.spots.training_set import CandidateSet
from dials_cnn_screen.studies.label_curve import begin_fitted, train_one
from dials_cnn_screen.studies.simulated_shots import as_frame
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.intervals import wilson_interval
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.threads import use_threads

# Of Table 1, and random ones; the default model was trained on none of them.
EXPERIMENTS = (
    "LO19",
    "LG36",
    "L498",
    "eiger-4015822722414951",
    "jungfrau-5796259809601478",
    "mpccd-3142049720591762",
)
SEED = 81_000
# Shares of Hit, Maybe and Miss by the experiment's own expert: by hand.
SHARES = (0.38, 0.17, 0.45)
# Shots to label, and to test on.
POOL, TEST = 140, 200
EYES = (5.5, 8.0, 12.0, 20.0)
LABELS = (10, 20, 50, 100)
# Noise of the labels: standard deviation of what the expert sees, in its logarithm,
# from shot to shot, and the share of labels that are of a neighbouring class. By hand.
DRIFT, SLIPS = 0.15, 0.03
# Training images of the last layers; the others of the pool are for validation.
HEAD = 100
# The strongest visible spots of a shot that are stored: by hand, many more than count.
_MOST_VISIBLE = 100


@dataclass(frozen=True, eq=False)
class Shots:
    """Simulated shots of one experiment.

    Attributes:
        data: Their candidates.
        significance: float32 (n, 100), of the strongest visible spots, standard
            deviations; 0 where there are fewer.
    """

    data: CandidateSet
    significance: NDArray[np.float32]

    def labels(
        self, eye: float, rng: np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """Labels (n,) of an expert who sees spots over so many standard deviations.

        rng: draws the noise of the labels; None: without noise.
        """
        n = len(self.significance)
        drift = np.ones(n) if rng is None else np.exp(DRIFT * rng.normal(size=n))
        seen = np.count_nonzero(self.significance >= eye * drift[:, None], axis=1)
        labels = np.array([int(label_from_spots(x)) for x in seen])
        if rng is not None:
            slips = rng.random(n) < SLIPS
            ends = np.where(rng.random(n) < 0.5, Label.HIT, Label.MISS)
            neighbour = np.where(labels == Label.MAYBE, ends, Label.MAYBE)
            labels = np.where(slips, neighbour, labels)
        return labels


class Outcome(NamedTuple):
    """How right one kind of classes is on the test shots of one repeat.

    Attributes:
        three: Fraction of shots whose class is right.
        kept: Fraction that are rightly a Miss, or rightly not.
        is_under: Whether kept is below the 95% interval of the default model's.
    """

    three: float
    kept: float
    is_under: bool


def simulate_shots(experiment: str, folder: Path, n: int, nproc: int) -> Shots:
    """Simulate n shots, or find them in the folder."""
    path = folder / f"{experiment}-{n}.npz"
    if not path.is_file():
        search: Any = load_model().preparation
        jobs = plan_run(experiment, n, SHARES, SEED)
        data = CandidateSet.empty(n, search.most)
        visible = np.zeros((n, _MOST_VISIBLE), np.float32)
        found = map_shots(partial(_prepare, search), jobs, nproc)
        for i, (candidates, label, seen) in enumerate(track(found, experiment, n)):
            data.put(i, candidates, label)
            visible[i, : len(seen)] = seen
        with replacing(path) as unfinished:
            np.savez(unfinished, **vars(data), significance=visible)
    with np.load(path) as arrays:
        values = dict(arrays)
    return Shots(significance=values.pop("significance"), data=CandidateSet(**values))


def _prepare(
    search: CandidateSearch, job: Job
) -> tuple[Candidates, Label, NDArray[np.float64]]:
    """Candidates and label of a shot, and how far its visible spots stand out."""
    from dials_cnn_screen.spots.candidates_cpu import find_candidates

    shot = simulate_job(job)
    frame = as_frame(shot, job[0])
    candidates = find_candidates(frame.data, frame.mask, frame.beam_centre, search)
    return candidates, shot.label, visible_significance(shot)


def visible_significance(shot: Shot) -> NDArray[np.float64]:
    """Of the strongest visible spots, standard deviations, the strongest first.

    Whatever the experiment's own expert sees.
    """
    visible = shot.significance[shot.significance >= VISIBLE_SIGMA]
    return np.sort(visible)[::-1][:_MOST_VISIBLE]


def predict(model: Model, data: CandidateSet) -> list[Prediction]:
    """The model's predictions for all shots."""
    import torch

    model.network.eval()
    predictions = []
    for i in range(len(data.labels)):
        with torch.inference_mode():
            output = model.network(data.batch(np.array([i])))
        logits, spot_logits, _ = (values[0].numpy() for values in output)
        used = data.present[i]
        height = np.sinh(data.scalars[i, used, :2])
        scores = score_candidates(strongest(*height.T), spot_logits[used])
        p = softmax(logits, model.calibration.temperature)
        predictions.append(make_prediction(p, candidates=scores))
    return predictions


def classes_by_eye(
    predictions: Sequence[Prediction],
    labels: NDArray[np.int64],
    chosen: NDArray[np.int64],
    test: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Classes of the test shots by an eye that is fitted to the chosen ones."""
    fitted = fit_to_predictions(
        [predictions[i] for i in chosen], [Label(x) for x in labels[chosen]], "a draw"
    )
    return np.array([predictions[i].seen_by(fitted.eye).label for i in test])


def classes_by_head(
    shots: Shots, labels: NDArray[np.int64], pool: NDArray, test: NDArray
) -> NDArray[np.int64]:
    """Classes of the test shots by the model, its last layers fitted to the pool."""
    truth = np.full_like(shots.data.truth, np.nan)  # labels do not say which are spots
    data = replace(shots.data, labels=labels, truth=truth)
    splits = Splits(pool[:HEAD], pool[HEAD:], test)
    return train_one("head", data, splits, begin_fitted, {})[1].predicted


def compare(
    shots: Shots,
    predictions: Sequence[Prediction],
    eye: float,
    repeats: int,
    head_repeats: int,
) -> dict[str, list[Outcome]]:
    """Outcomes by the name of what made the classes, one a repeat.

    Args:
        shots: POOL shots to label and more to test on.
        predictions: The default model's.
        eye: Of the expert, standard deviations.
        repeats: Draws of labels.
        head_repeats: In so many of them the head is fitted too.
    """
    pool, test = np.arange(POOL), np.arange(POOL, len(predictions))
    right = shots.labels(eye)[test]
    own = np.array([predictions[i].label for i in test])
    n_right = int(np.count_nonzero((own == Label.MISS) == (right == Label.MISS)))
    limit = wilson_interval(n_right, len(test))[0]

    def outcome(classes: NDArray[np.int64]) -> Outcome:
        kept = float(np.mean((classes == Label.MISS) == (right == Label.MISS)))
        return Outcome(float(np.mean(classes == right)), kept, kept < limit)

    outcomes: dict[str, list[Outcome]] = {"default model": [outcome(own)]}
    for repeat in range(repeats):
        rng = np.random.default_rng([SEED, repeat, round(10 * eye)])
        labels, order = shots.labels(eye, rng), rng.permutation(pool)
        for n_labels in LABELS:
            found = classes_by_eye(predictions, labels, order[:n_labels], test)
            name = f"eye, {n_labels} labels"
            outcomes.setdefault(name, []).append(outcome(found))
        if repeat < head_repeats:
            found = classes_by_head(shots, labels, order, test)
            name = f"head, {HEAD} + {POOL - HEAD} labels"
            outcomes.setdefault(name, []).append(outcome(found))
    return outcomes


def table_rows(
    outcomes: dict[float, dict[str, list[Outcome]]],
) -> Iterator[list[str]]:
    """Rows of the table: experts in columns, means over experiments and repeats."""
    yield ["classes by", *(f"expert sees {eye:g} sigma" for eye in outcomes)]
    for name in next(iter(outcomes.values())):
        cells = []
        for by_name in outcomes.values():
            values = np.array(by_name[name])
            three, kept, under = values.mean(axis=0)
            cells.append(
                f"{100 * three:.1f}, {100 * kept:.1f} "
                f"({100 * values[:, 1].min():.1f}); {100 * under:.0f}%"
            )
        yield [name, *cells]


def print_table(outcomes: dict[float, dict[str, list[Outcome]]]) -> None:
    """The table as Markdown."""
    print(
        "In each cell: three classes right, %; Hit or Maybe told from Miss rightly, % "
        "(the worst draw); share of draws under the default model's interval."
    )
    for i, row in enumerate(table_rows(outcomes)):
        print(f"| {' | '.join(row)} |")
        if i == 0:
            print("|---" * len(row) + "|")


def main() -> None:
    """Make the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.studies.eye",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="*", default=EXPERIMENTS)
    parser.add_argument("--test", type=int, default=TEST, help="number of test shots")
    parser.add_argument("--repeats", type=int, default=20, help="draws of labels")
    parser.add_argument("--head", type=int, default=3, help="draws with the head too")
    parser.add_argument("--folder", type=Path, help="where shots are kept")
    parser.add_argument("--nproc", type=int, default=os.cpu_count())
    options = parser.parse_args()
    use_threads(options.nproc)
    together: dict[float, dict[str, list[Outcome]]] = {eye: {} for eye in EYES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.experiments:
            n = POOL + options.test
            shots = simulate_shots(name, folder, n, options.nproc)
            predictions = predict(load_model(), shots.data)
            found = {
                eye: compare(shots, predictions, eye, options.repeats, options.head)
                for eye in EYES
            }
            print(f"\n{name}", flush=True)
            print_table(found)
            for eye, outcomes in found.items():
                for key, values in outcomes.items():
                    together[eye].setdefault(key, []).extend(values)
    print("\nAll experiments")
    print_table(together)


if __name__ == "__main__":
    main()
