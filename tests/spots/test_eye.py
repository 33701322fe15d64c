from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores, score_candidates
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.eye import (
    MODEL_SIGMA,
    Eye,
    class_probabilities,
    count_probabilities,
    pad,
)


def frame(significance, p_spot) -> CandidateScores:
    significance, p_spot = np.broadcast_arrays(significance, p_spot)
    return CandidateScores(significance.astype(float), p_spot.astype(float))


def spots(n: int, significance: float) -> CandidateScores:
    return frame(np.full(n, significance), 1.0)


def test_counts_are_those_of_all_outcomes():
    p = np.array([0.1, 0.5, 0.9, 0.3])
    expected = np.zeros(5)
    for outcome in itertools.product([0, 1], repeat=len(p)):
        drawn = np.array(outcome)
        expected[drawn.sum()] += np.prod(np.where(drawn, p, 1 - p))
    found = count_probabilities(p[None, :, None], 5)[:, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-15)
    np.testing.assert_allclose(
        count_probabilities(p[None, :, None], 3)[:, 0, 0], expected[:3], atol=1e-15
    )


def test_at_the_threshold_of_the_model_its_probabilities_count():
    rng = np.random.default_rng(3)
    found = frame(rng.uniform(3.5, 60, 30), rng.uniform(0, 1, 30))
    by_eye = class_probabilities(pad([found]), MODEL_SIGMA, 1e-9)[0]
    counts = count_probabilities(found.p_spot[None, :, None], 10)[:, 0, 0]
    expected = [1 - counts.sum(), counts[4:].sum(), counts[:4].sum()]
    np.testing.assert_allclose(by_eye, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "sigma", "label"),
    [
        (20, 6, Label.HIT),
        (20, 40, Label.MISS),
        (9, 6, Label.MAYBE),
        (10, 6, Label.HIT),
        (4, 6, Label.MAYBE),
        (3, 6, Label.MISS),
    ],
)
def test_classes_by_the_rule_of_the_paper(n, sigma, label):
    # Spots of 15 sigma, between the thresholds of the two eyes.
    p = class_probabilities(pad([spots(n, 15.0)]), sigma, 0.05)[0]
    assert p.argmax() == label
    assert p[label] > 0.95


def test_the_higher_the_threshold_the_fewer_hits():
    found = frame(np.geomspace(4, 60, 60), 0.8)
    eyes = (5.5, 8, 12, 20, 40, 90)
    p = np.array([class_probabilities(pad([found]), s, 0.2)[0] for s in eyes])
    assert (np.diff(p[:, Label.MISS]) > 0).all()
    assert (np.diff(p[:, Label.HIT]) < 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_spread_makes_classes_less_sure():
    near = spots(30, 12.0)
    sure, unsure = (class_probabilities(pad([near]), 9.0, s)[0] for s in (0.05, 0.8))
    assert sure[Label.HIT] > 0.99
    assert 0.5 < unsure[Label.HIT] < 0.8


def test_frames_together_are_as_each_alone():
    frames = [spots(3, 9.0), frame([], []), frame([5.0, 20.0, 7.5, 30.0], 0.6)]
    eye, own = Eye(7.0), np.full((3, 3), 1 / 3)
    together = eye.probabilities(frames, own)
    alone = np.concatenate([eye.probabilities([f], own[:1]) for f in frames])
    np.testing.assert_allclose(together, alone, atol=1e-15)
    np.testing.assert_allclose(together[1], [0, 0, 1])


def test_classes_of_the_model_have_their_share():
    frames, own = [spots(20, 15.0)], np.array([[0.1, 0.2, 0.7]])
    seen = Eye(7.0, 0.1).probabilities(frames, own)
    shared = Eye(7.0, 0.1, own_share=0.25).probabilities(frames, own)
    np.testing.assert_allclose(shared, 0.75 * seen + 0.25 * own)
    np.testing.assert_allclose(Eye(7.0, own_share=1.0).probabilities(frames, own), own)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((4.0,), "visible_sigma=4 is not 5.5 or more: the model does not look for"),
        ((float("nan"),), "visible_sigma=nan is not 5.5"),
        ((float("inf"),), "visible_sigma=inf is not 5.5"),
        ((9.0, 0.0), "spread=0 is not over 0"),
        ((9.0, float("nan")), "spread=nan is not over 0"),
        ((9.0, 0.2, "", 1.5), "own_share=1.5 is not from 0 to 1"),
        ((9.0, 0.2, "", float("nan")), "own_share=nan is not from 0 to 1"),
        ((9.0, 0.2, "", 0.0, None, 1.5), "lapse_rate=1.5 is not from 0 to 1"),
        ((9.0, 0.2, "", 0.0, None, 0.1, (1.0,)), "(1.0,) are not shares of three"),
        ((9.0, 0.2, "", 0.0, None, 0.1, (2.0, 0, 0)), "are not shares of three"),
    ],
)
def test_eyes_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Eye(*values)


def test_lapses_have_their_classes_whatever_is_on_the_image():
    sharp = Eye(8.0)
    erring = Eye(8.0, lapse_rate=0.4, lapse_shares=[0.5, 0.25, 0.25])
    assert erring == Eye(8.0, lapse_rate=0.4, lapse_shares=(0.5, 0.25, 0.25))
    assert erring.lapse_percent == 40
    frames, own = [spots(0, 9.0), spots(20, 30.0)], np.full((2, 3), 1 / 3)
    p = sharp.probabilities(frames, own)
    expected = 0.6 * p + 0.4 * np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(erring.probabilities(frames, own), expected)


def test_scores_leave_out_what_is_hardly_a_spot():
    logits = np.array([5.0, -900.0, -4.0, -5.0], np.float32)
    scores = score_candidates(np.array([9.1234, 8, 7.5, 7], np.float32), logits)
    np.testing.assert_array_equal(scores.significance, [9.12, 7.5])
    np.testing.assert_array_equal(scores.p_spot, [0.993, 0.018])


@pytest.mark.parametrize(
    ("significance", "p_spot", "message"),
    [
        ([5.0], [0.5, 0.5], "not pairs"),
        ([np.nan], [0.5], "significance of a candidate is not finite"),
        ([5.0], [1.5], "probability of a candidate is not from 0 to 1"),
        ([5.0], [np.nan], "probability of a candidate is not from 0 to 1"),
    ],
)
def test_scores_that_cannot_be(significance, p_spot, message):
    with pytest.raises(ValueError, match=message):
        CandidateScores(np.array(significance), np.array(p_spot))


def placed(significance: float, places) -> CandidateScores:
    n = len(places)
    return CandidateScores(np.full(n, significance), np.ones(n), np.array(places))


def test_spots_outside_of_the_region_are_not_seen():
    inside = [(20 + i, 30) for i in range(12)]
    outside = [(20 + i, 40) for i in range(12)]
    # x0, x1, y0, y1: the first of each are in it, the last are not.
    eye = Eye(8.0, region_of_interest=(30, 40, 20, 32))
    own = np.zeros((1, 3))
    assert eye.probabilities([placed(30.0, inside)], own)[0, Label.HIT] > 0.99
    assert eye.probabilities([placed(30.0, outside)], own)[0, Label.MISS] > 0.99
    edge = Eye(8.0, region_of_interest=(30, 40, 20, 29))
    assert edge.probabilities([placed(30.0, inside)], own)[0, Label.MAYBE] > 0.99
    assert Eye(8.0, region_of_interest=[30, 40, 20, 32]) == eye
    with pytest.raises(ValueError, match="do not say where the candidates are"):
        eye.probabilities([spots(12, 30.0)], own)


@pytest.mark.parametrize(
    "region", [(5, 5, 0, 9), (0, 9, 9, 3), (-1, 9, 0, 9), (0, 9, 0), (1, 2, 3, 4, 5)]
)
def test_regions_that_cannot_be(region):
    text = ",".join(map(str, region))
    with pytest.raises(ValueError, match=f"region_of_interest={text} is not x0,x1,y0"):
        Eye(8.0, region_of_interest=region)


def test_frames_without_the_region_cannot_be_judged():
    eye = Eye(8.0, region_of_interest=(100, 200, 50, 60))
    eye.check_frame((51, 101))
    Eye(8.0).check_frame((1, 1))
    for shape in ((51, 100), (50, 101)):
        with pytest.raises(ValueError, match=r"=100,200,50,60 is outside of the frame"):
            eye.check_frame(shape)


def test_how_probably_spots_are_seen():
    eye = Eye(10.0, spread=0.2)
    seen = eye.sees(np.array([0.0, 5.4, 6.0, 10.0, 30.0]))
    assert seen[:2].tolist() == [0, 0]
    assert 0 < seen[2] < 0.01
    assert seen[3:].tolist() == pytest.approx([0.5, 1])
    # By the eye's own distribution of thresholds.
    rng = np.random.default_rng(0)
    thresholds = 10 * np.exp(0.2 * rng.normal(size=100_000))
    found = eye.sees(np.array([7.5, 13.0]))
    expected = [(thresholds <= 7.5).mean(), (thresholds <= 13).mean()]
    np.testing.assert_allclose(found, expected, atol=0.01)
    shared = Eye(10.0, spread=0.2, own_share=0.5)
    np.testing.assert_allclose(shared.sees(np.array([7.5])), 0.5 + 0.5 * found[:1])
