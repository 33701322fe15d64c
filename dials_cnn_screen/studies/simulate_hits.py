"""Calibration hits of a model, with what an eye needs of them, simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor
from dials_cnn_screen.simulation.random_experiments import Job
from dials_cnn_screen.simulation.run import simulate_job
from dials_cnn_screen.spots.simulated_hits import SimulatedHits, best_spots
from dials_cnn_screen.studies.eye import visible_significance
from dials_cnn_screen.studies.outcomes import classify_shot, map_jobs


def with_simulated_hits(model: Model, jobs: Sequence[Job]) -> Calibration:
    """The model's calibration, with the hits among these shots.

    jobs: The shots that it was calibrated on.
    """
    found = map_jobs(_classify, model, jobs, "Calibration shots")
    hits = [shot for shot in found if shot[0] is not Label.MISS]
    predictions = [prediction for _, prediction, _ in hits]
    p_keep = np.array([prediction.p_keep for prediction in predictions])
    is_sure = np.array([label is Label.HIT for label, _, _ in hits])
    candidates = [p.candidates for p in predictions if p.candidates is not None]
    simulated = None
    if candidates:
        own = np.array([prediction.probabilities for prediction in predictions])
        best = np.array([best for _, _, best in hits])
        simulated = SimulatedHits.of(candidates, own, best)
    return replace(
        model.calibration,
        hit_scores=np.sort(p_keep),
        sure_scores=np.sort(p_keep[is_sure]),
        simulated=simulated,
    )


def _classify(
    predictor: Predictor, job: Job
) -> tuple[Label, Prediction, tuple[float, float]]:
    """Label and prediction of a shot, and how far its spots stand out."""
    shot = simulate_job(job)
    prediction = classify_shot(predictor, job, shot)
    return shot.label, prediction, best_spots(visible_significance(shot))
