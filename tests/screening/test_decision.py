from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import (
    Decision,
    KeptBecause,
    LossOf,
    format_decision,
    threshold_for_hit_loss,
    threshold_for_labels,
    why_kept,
)
from dials_cnn_screen.spots.eye import Eye

NAME = ImageName("run1/data.h5", 3)


def predict(p_keep, ood_score=None):
    return make_prediction([p_keep, 0.0, 1 - p_keep], ood_score=ood_score)


def keep(scores, decision, ood_scores=None):
    """Which of the images of these P(Hit) + P(Maybe) are kept; NaN: not classified."""
    ood_scores = [None] * len(scores) if ood_scores is None else ood_scores
    return np.array(
        [
            why_kept(
                ImageName("run1/data.h5", i + 1),
                None if np.isnan(score) else predict(score, ood),
                decision,
            )
            is not None
            for i, (score, ood) in enumerate(zip(scores, ood_scores, strict=True))
        ]
    )


@pytest.mark.parametrize(
    ("prediction", "because"),
    [
        (None, KeptBecause.ERROR),
        (predict(0.9, 1.5), KeptBecause.OUT_OF_DISTRIBUTION),
        (predict(0.0, 1.5), KeptBecause.OUT_OF_DISTRIBUTION),
        (predict(0.5, 0.9), KeptBecause.P_KEEP),
        (predict(0.4, 0.9), None),
        (predict(0.4), None),
    ],
)
def test_why_an_image_is_kept(prediction, because):
    assert why_kept(NAME, prediction, Decision()) is because


def test_misses_are_kept_for_the_audit_by_name():
    names = [ImageName(f"run{i % 2}/data.h5", i) for i in range(1, 1001)]
    decision = Decision(keep_misses=0.3, seed=1)
    drawn = {name: why_kept(name, predict(0.0), decision) for name in names}
    assert set(drawn.values()) == {KeptBecause.AUDIT, None}
    # In any order, on any process.
    again = {name: why_kept(name, predict(0.1), decision) for name in names[::-1]}
    assert again == drawn
    same_number = [
        drawn[ImageName("run1/data.h5", i)]
        is why_kept(ImageName("run2/data.h5", i), predict(0.0), decision)
        for i in range(1, 1000, 2)
    ]
    assert 0.4 < np.mean(same_number) < 0.8


def test_keep_from_the_threshold_on():
    scores = np.array([0.2, 0.5, 0.49999, 0.9, np.nan])
    kept = keep(scores, Decision(threshold=0.5))
    assert kept.tolist() == [False, True, False, True, True]


def test_what_could_not_be_classified_is_kept_at_any_threshold():
    assert keep(np.array([np.nan]), Decision(threshold=1.0)).tolist() == [True]


def test_out_of_distribution_is_kept_whatever_its_score():
    kept = keep([0.0, 0.0, 0.9], Decision(threshold=0.5), [1.1, 1.0, 0.0])
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
        lost.append(scores[30:] < threshold)
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
        lost.append(scores[99:] < threshold)
    standard_error = np.mean(lost, axis=1).std() / math.sqrt(2000)
    assert np.mean(lost) <= max_hit_loss + 3 * standard_error
    # Of the scores a few percent are equal: not more is given away.
    assert np.mean(lost) > max_hit_loss - 0.04


def test_out_of_distribution_only_lowers_the_loss():
    rng = np.random.default_rng(0)
    scores = rng.random(500)
    decision = Decision(threshold_for_hit_loss(scores[:250], 0.2))
    plain = keep(scores[250:], decision)
    kept = keep(scores[250:], decision, 2 * rng.random(250))
    assert (kept >= plain).all()
    assert (kept > plain).any()


def test_format_decision():
    assert format_decision(Decision(0.25)) == (
        "Images are kept if P(Hit) + P(Maybe) is 0.25 or more."
    )
    text = format_decision(
        Decision(
            0.25,
            keep_misses=0.01,
            max_hit_loss=0.02,
            calibrated_on="9 shots",
            calibration_hits=7,
        )
    )
    assert (
        "at most 2% of the Hits and Maybes are expected to be lost (split con" in text
    )
    assert "drawn like the 7 calibration hits: 9 shots. This does not hold" in text
    assert text.endswith(
        "Of the others 1% are kept at random, so that you can look for lost hits among "
        "them."
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


def test_hits_by_chance_count_in_part():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    # Of 10.5 hits 0.2 (10.5 + 1) = 2.3 may be lost: those up to 0.3 are 2.2.
    weights = np.array([0.1, 2.0, 0.1, 4.3, 4.0])
    assert threshold_for_hit_loss(scores, 0.2, weights) == 0.3
    order = np.array([3, 1, 4, 0, 2])
    assert threshold_for_hit_loss(scores[order], 0.2, weights[order]) == 0.3
    ones = np.ones(5)
    for bound in (0.2, 0.35, 0.9):
        plain = threshold_for_hit_loss(scores, bound)
        assert threshold_for_hit_loss(scores, bound, ones) == plain
    with pytest.raises(ValueError, match="needs 19 calibration hits, and there are 10"):
        threshold_for_hit_loss(scores, 0.05, weights)


def test_mean_loss_of_hits_by_chance_is_within_the_limit():
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(2000):
        scores, chance = rng.beta(5, 1, size=200), rng.random(200)
        threshold = threshold_for_hit_loss(scores[:100], 0.1, chance[:100])
        is_hit = rng.random(100) < chance[100:]
        lost.append((scores[100:][is_hit] < threshold).mean())
    assert 0.08 < np.mean(lost) <= 0.1


@pytest.mark.parametrize(("n", "rank"), [(1, 0), (31, 0), (33, 1), (99, 3)])
def test_of_labelled_hits_no_more_are_lost_than_may_be_slips(n, rank):
    scores = np.random.default_rng(n).permutation(np.arange(1, n + 1) / n)
    assert threshold_for_labels(scores) == (rank + 1) / n


def test_without_labelled_hits_there_is_no_limit():
    assert threshold_for_labels(np.empty(0)) == 1


def test_whose_loss_counts():
    both, sure = LossOf("hits_and_maybes"), LossOf("hits")
    assert [both.counts(label) for label in Label] == [True, True, False]
    assert [sure.counts(label) for label in Label] == [True, False, False]
    text = format_decision(Decision(0.4, max_hit_loss=0.01, loss_of="hits"))
    assert "at most 1% of the Hits are expected to be lost" in text


def test_where_an_eye_looks_is_said():
    eye = Eye(12.0, region_of_interest=(10, 20, 30, 40))
    text = format_decision(Decision(eye=eye))
    assert "by 12 standard deviations or more at fast 10 to 19, slow 30 to 39 (" in text
