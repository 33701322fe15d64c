from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.decision import (
    Decision,
    explain,
    keep,
    threshold_for_hit_loss,
)
from dials_cnn_screen.labels.probabilities import classify, keep_score, probabilities


def test_probabilities_are_equation_3():
    z = [0.5, -1.0, 2.0]
    total = sum(math.exp(x) for x in z)
    np.testing.assert_allclose(
        probabilities(z), [math.exp(x) / total for x in z], rtol=1e-14
    )


def test_temperature_divides_the_scores():
    z = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(probabilities(z, 2.5), probabilities(z / 2.5))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_scores_do_not_overflow(size):
    p = probabilities(np.array([size, size, size - 1], dtype=np.float32))
    np.testing.assert_allclose(p, probabilities([1.0, 1.0, 0.0]))


def test_keep_score_adds_hit_and_maybe():
    p = np.array([[0.6, 0.3, 0.1], [0.0, 0.25, 0.75]])
    np.testing.assert_allclose(keep_score(p), [0.9, 0.25])


@pytest.mark.parametrize(
    ("p", "label"),
    [
        ([0.6, 0.3, 0.1], Label.HIT),  # the example of section 2.1
        ([0.3, 0.3, 0.4], Label.HIT),  # Miss is likeliest, but not by itself
        ([0.2, 0.35, 0.45], Label.MAYBE),
        ([0.25, 0.25, 0.5], Label.HIT),
        ([0.3, 0.15, 0.55], Label.MISS),
    ],
)
def test_classify(p, label):
    assert classify(np.array(p)) is label


def test_keep_from_the_threshold_on():
    scores = np.array([0.2, 0.5, 0.49999, 0.9, np.nan])
    kept = keep(scores, Decision(threshold=0.5))
    assert kept.tolist() == [False, True, False, True, True]


def test_what_could_not_be_judged_is_kept_at_any_threshold():
    assert keep(np.array([np.nan]), Decision(threshold=1.0)).tolist() == [True]


def test_what_is_unlike_training_is_kept_whatever_its_score():
    scores, unlike = np.array([0.0, 0.0, 0.9]), np.array([True, False, False])
    kept = keep(scores, Decision(threshold=0.5), unlike)
    assert kept.tolist() == [True, False, True]


def test_threshold_0_keeps_all():
    assert keep(np.zeros(3), Decision(threshold=0.0)).all()


def test_a_fraction_of_the_misses_is_kept():
    scores = np.repeat([0.0, 1.0], [10_000, 100])
    kept = keep(scores, Decision(keep_misses=0.2))
    assert kept[10_000:].all()
    assert kept[:10_000].mean() == pytest.approx(0.2, abs=0.02)


def test_the_misses_kept_depend_on_the_seed_alone():
    scores = np.zeros(1000)
    kept = keep(scores, Decision(keep_misses=0.5, seed=1))
    np.testing.assert_array_equal(kept, keep(scores, Decision(keep_misses=0.5, seed=1)))
    assert (kept != keep(scores, Decision(keep_misses=0.5, seed=2))).any()


@pytest.mark.parametrize(
    ("max_hit_loss", "threshold"),
    [(0.1, 1.0), (0.19, 1.0), (0.2, 2.0), (0.55, 5.0), (0.9, 9.0), (1.0, 9.0)],
)
def test_threshold_by_hand(max_hit_loss, threshold):
    # Nine scores: k = floor(10 max_hit_loss), and the k-th smallest is k.
    scores = np.array([3, 9, 1, 8, 2, 7, 4, 6, 5.0])
    assert threshold_for_hit_loss(scores, max_hit_loss) == threshold


@pytest.mark.parametrize("max_hit_loss", [0.05, 0.1, 0.3])
def test_mean_loss_of_new_hits_is_within_the_limit(max_hit_loss):
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(2000):
        scores = rng.beta(5, 1, size=50)
        threshold = threshold_for_hit_loss(scores[:30], max_hit_loss)
        lost.append(~keep(scores[30:], Decision(threshold)))
    k = math.floor(max_hit_loss * 31)
    assert np.mean(lost) == pytest.approx(k / 31, rel=0.1)
    assert np.mean(lost) <= max_hit_loss


@pytest.mark.parametrize("max_hit_loss", [0.05, 0.1, 0.3])
def test_mean_loss_of_scores_that_are_often_equal(max_hit_loss):
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(2000):
        scores = rng.beta(5, 1, size=140).round(2)
        threshold = threshold_for_hit_loss(scores[:99], max_hit_loss)
        lost.append(~keep(scores[99:], Decision(threshold)))
    standard_error = np.mean(lost, axis=1).std() / math.sqrt(2000)
    assert np.mean(lost) <= max_hit_loss + 3 * standard_error
    # Of the scores a few percent are equal: not more is given away.
    assert np.mean(lost) > max_hit_loss - 0.04


def test_what_is_unlike_training_only_lowers_the_loss():
    rng = np.random.default_rng(0)
    scores = rng.random(500)
    decision = Decision(threshold_for_hit_loss(scores[:250], 0.2))
    plain = keep(scores[250:], decision)
    kept = keep(scores[250:], decision, rng.random(250) < 0.5)
    assert (kept >= plain).all()
    assert (kept > plain).any()


def test_explain():
    assert explain(Decision(0.25)) == "Kept if P(Hit) + P(Maybe) is 0.25 or more."
    text = explain(
        Decision(
            0.25,
            keep_misses=0.01,
            max_hit_loss=0.02,
            rests_on="9 shots",
            calibration_hits=7,
        )
    )
    assert "at most 2% of the hits are expected to be lost (split conformal" in text
    assert "drawn like the 7 hits that this rests on: 9 shots. It promises noth" in text
    assert text.endswith(
        "Of the others 1% are kept at random, to be looked through for lost hits."
    )


def test_equal_scores_are_all_kept():
    threshold = threshold_for_hit_loss(np.ones(100), 0.1)
    assert keep(np.ones(5), Decision(threshold)).all()


@pytest.mark.parametrize(
    ("n", "max_hit_loss", "message"),
    [
        (
            8,
            0.1,
            "max_hit_loss=0.1 needs 9 calibration hits, and there are 8; label more",
        ),
        (0, 0.01, "needs 99 calibration hits, and there are 0"),
        (50, 0.0, "max_hit_loss=0 is not over 0; set threshold=0"),
    ],
)
def test_too_few_hits_for_a_promise(n, max_hit_loss, message):
    with pytest.raises(ValueError, match=message):
        threshold_for_hit_loss(np.ones(n), max_hit_loss)
