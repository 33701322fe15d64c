"""Simulated shots that a model classified, for tables of how right it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.screening.decision import Decision, why_kept
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.shot import Shot
from dials_cnn_screen.studies.simulated_shots import as_frame
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import map_on_workers

Result = TypeVar("Result")

SEED = 31_000  # of shots to evaluate on; any that no training has
# What is kept by Ke et al. (2018).
PAPER_RULE = Decision()
# Names matter for the audit alone, and there is none.
_NAME = ImageName("simulated")


def is_kept(prediction: Prediction, decision: Decision) -> bool:
    """Whether screening keeps a shot of this prediction."""
    return why_kept(_NAME, prediction, decision) is not None


@dataclass(frozen=True)
class Outcome:
    """One simulated shot and the model's prediction.

    Attributes:
        n_visible: Number of visible spots.
        fourth_best: Significance of the fourth best spot where the expert looks, as one
            would measure it who knew all places, that is with noise of one standard
            deviation.
        label: By the visible spots.
        kind: As in Shot.
        prediction: Of the model.
    """

    n_visible: int
    fourth_best: float
    label: Label
    kind: str
    prediction: Prediction

    @property
    def kept(self) -> bool:
        """Whether screening keeps the shot at the paper's threshold."""
        return is_kept(self.prediction, PAPER_RULE)


def map_jobs(
    work: Callable[[Predictor, Job], Result],
    model: Model,
    jobs: Sequence[Job],
    title: str,
) -> list[Result]:
    """``work(predictor, job)`` for each job, on all processors.

    Args:
        work: At the top of a module.
        model: Whose predictor it is.
        jobs: The shots.
        title: Of the progress bar.
    """
    results = map_on_workers(
        work,
        jobs,
        os.cpu_count() or 1,
        Model.predictor,
        (model,),
        chunk=8,
        fork=False,
    )
    return list(track(results, title, len(jobs), "shot"))


def classify_shot(predictor: Predictor, job: Job, shot: Shot) -> Prediction:
    """The prediction for the shot of a job.

    Not predict: it refuses shots of photon counters without a single photon.
    """
    return predictor.classify(predictor.prepare(as_frame(shot, job[0])))
