from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.spots.eye import MODEL_SIGMA, Eye, class_probabilities, pad
from dials_cnn_screen.spots.eye_fit import LAPSES, SIGMAS, fit_eye


def frames_of(n: int, seed: int) -> list[CandidateScores]:
    """Frames with 1 to 150 sure spots of a falling distribution of significance."""
    rng = np.random.default_rng(seed)
    frames = []
    for count in np.exp(rng.uniform(0, 5, n)).astype(int):
        significance = MODEL_SIGMA * rng.pareto(1.2, count) + MODEL_SIGMA
        frames.append(CandidateScores(np.sort(significance)[::-1], np.ones(count)))
    return frames


def labels_by(frames: list[CandidateScores], sigma: float) -> list[Label]:
    counts = [np.count_nonzero(f.significance >= sigma) for f in frames]
    return [label_from_spots(n) for n in counts]


def own(frames: list[CandidateScores]) -> np.ndarray:
    return by_eye(Eye(MODEL_SIGMA, 0.05), frames)


def by_eye(eye: Eye, frames: list[CandidateScores]) -> np.ndarray:
    """By the eye alone."""
    return class_probabilities(pad(frames), eye.visible_sigma, eye.spread)


def test_model_is_trained_on_spots_over_its_threshold():
    from dials_cnn_screen.spots.training_set import VISIBLE

    assert MODEL_SIGMA == VISIBLE


@pytest.mark.parametrize("sigma", [8.0, 12.0, 20.0])
def test_forty_labels_find_the_threshold(sigma):
    frames = frames_of(40, seed=1)
    fitted = fit_eye(frames, own(frames), labels_by(frames, sigma), "labels")
    assert fitted.eye.own_share < 0.01
    assert fitted.eye.visible_sigma == pytest.approx(sigma, rel=0.25)
    low, high = fitted.interval
    assert low <= fitted.eye.visible_sigma <= high
    assert low <= sigma * 1.09
    assert high >= sigma / 1.09
    assert fitted.eye.source == "labels"
    others = frames_of(200, seed=2)
    found = fitted.eye.probabilities(others, own(others)).argmax(axis=1)
    assert np.mean(found == labels_by(others, sigma)) > 0.93
    assert np.mean(own(others).argmax(axis=1) == labels_by(others, sigma)) < 0.9


def test_the_model_stays_where_its_own_classes_are_right():
    frames = frames_of(40, seed=1)
    labels = labels_by(frames, MODEL_SIGMA)
    fitted = fit_eye(frames, own(frames), labels, "labels")
    assert fitted.eye.own_share > 0.5
    assert fitted.interval[0] == MODEL_SIGMA
    others = frames_of(200, seed=2)
    found = fitted.eye.probabilities(others, own(others)).argmax(axis=1)
    assert np.mean(found == labels_by(others, MODEL_SIGMA)) > 0.95


def test_few_labels_leave_the_eye_and_its_spread_open():
    frames = frames_of(100, seed=1)
    labels = labels_by(frames, 7.5)
    few, many = (
        fit_eye(frames[:n], own(frames[:n]), labels[:n], "labels").eye
        for n in (10, 100)
    )
    assert few.own_share > 0.1
    assert many.own_share < 0.001
    assert few.spread > many.spread


def test_shares_are_those_of_the_bayes_factor():
    # One frame without candidates: every eye is as sure of a Miss, and so is the model.
    frames = [CandidateScores(np.empty(0), np.empty(0))] * 3
    sure = np.tile([0.0, 0.0, 1.0], (3, 1))
    labels = [Label.MISS] * 3
    assert fit_eye(frames, sure, labels, "labels").eye.own_share == 0.5
    doubtful = np.tile([0.25, 0.25, 0.5], (3, 1))

    def evidence(p: float) -> float:
        # Nineteen to one there are no lapses; else a tenth of them to six, all Misses
        # but for the third of an image of each class.
        mixed = (1 - LAPSES) * p + LAPSES * (3 + 1 / 3) / 4
        prior = np.array([0.95, *[0.05 / 6] * 6])
        return prior @ (0.97 * mixed + 0.01) ** 3

    ratio = evidence(0.5) / evidence(1.0)
    assert fit_eye(frames, doubtful, labels, "labels").eye.own_share == pytest.approx(
        ratio / (1 + ratio), abs=1e-4
    )


def test_slips_hardly_move_the_threshold():
    frames = frames_of(40, seed=1)
    labels = labels_by(frames, 12.0)
    clean = fit_eye(frames, own(frames), labels, "labels").eye.visible_sigma
    strongest = max(range(40), key=lambda i: len(frames[i].p_spot))
    labels[strongest] = Label.MISS
    slipped = fit_eye(frames, own(frames), labels, "labels").eye.visible_sigma
    assert slipped == pytest.approx(clean, rel=0.2)


def test_labels_that_follow_no_number_of_spots_are_lapses():
    frames = frames_of(100, seed=1)
    labels = labels_by(frames, 12.0)
    steady = fit_eye(frames, own(frames), labels, "labels").eye
    assert steady.lapse_rate < 0.01
    rng = np.random.default_rng(0)
    erratic = rng.random(100) < 0.5
    drawn = rng.permutation(labels)
    mixed = [
        Label(d if e else x) for x, d, e in zip(labels, drawn, erratic, strict=True)
    ]
    found = fit_eye(frames, own(frames), mixed, "labels").eye
    assert 0.3 < found.lapse_rate < 0.6
    # Of the classes among all labels.
    shares = np.bincount(mixed, minlength=3) / 100
    np.testing.assert_allclose(found.lapse_shares, shares, atol=0.01)
    assert found.visible_sigma == pytest.approx(steady.visible_sigma, rel=0.3)
    # Of no image is the eye surer than half of the labels allow.
    p = found.probabilities(frames, own(frames))
    assert p.max() < 0.9


def test_more_labels_make_the_interval_narrower():
    frames = frames_of(100, seed=1)
    labels = labels_by(frames, 12.0)

    def width(n):
        low, high = fit_eye(frames[:n], own(frames[:n]), labels[:n], "labels").interval
        return high / low

    assert width(100) < width(10)


def test_values_that_are_searched():
    assert SIGMAS[0] == MODEL_SIGMA
    assert 60 < SIGMAS[-1] < 65


def test_a_fit_counts_where_the_expert_looks():
    rng = np.random.default_rng(5)
    region = (0, 50, 0, 100)
    counts = np.tile([0, 2, 6, 15], 10)
    # Spots within the region, and thirty outside that the expert never sees.
    placed = []
    for n in counts:
        places = rng.integers(0, 50, (n + 30, 2))
        places[n:, 1] += 50
        placed.append(CandidateScores(np.full(n + 30, 30.0), np.ones(n + 30), places))
    labels = [label_from_spots(n) for n in counts]
    model = np.tile([0.98, 0.01, 0.01], (len(counts), 1))
    fitted = fit_eye(placed, model, labels, "labels", region)
    assert fitted.eye.region_of_interest == region
    classes = fitted.eye.probabilities(placed, model).argmax(axis=1)
    assert (classes == labels).all()
    everywhere = fit_eye(placed, model, labels, "labels").eye
    assert (everywhere.probabilities(placed, model).argmax(axis=1) != labels).any()
    bare = [CandidateScores(p.significance, p.p_spot) for p in placed]
    with pytest.raises(ValueError, match="do not say where the candidates are"):
        fit_eye(bare, model, labels, "labels", region)
