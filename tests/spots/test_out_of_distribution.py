from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dials_cnn_screen.spots.out_of_distribution import (
    SHRINKAGE,
    OutOfDistribution,
    fit_out_of_distribution,
    is_out_of_distribution,
)


def gaussian(n: int, seed: int = 0) -> np.ndarray:
    """Features (n, 3) with variances 100, 1 and 0.01 along axes that are turned."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))
    return rng.normal(size=(n, 3)) * [10, 1, 0.1] @ turn + [5, -3, 0]


def test_distance_is_mahalanobis():
    features = gaussian(500)
    fitted = fit_out_of_distribution(features)
    covariance = np.cov(features, rowvar=False, bias=True)
    same = np.eye(3) * np.trace(covariance) / 3
    inverse = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * same)
    away = gaussian(20, seed=1) - features.mean(axis=0)
    expected = np.sqrt([x @ inverse @ x for x in away])
    np.testing.assert_allclose(fitted.mahalanobis(gaussian(20, seed=1)), expected)
    np.testing.assert_allclose(
        fitted.mahalanobis(fitted.location[None]), [0], atol=1e-9
    )


@pytest.mark.parametrize("exceeded", [0.001, 0.05, 0.5])
def test_so_many_exceed_the_limit(exceeded):
    fitted = fit_out_of_distribution(gaussian(20_000), exceeded)
    of_fit = fitted.score(gaussian(20_000)) > 1
    assert of_fit.mean() == pytest.approx(exceeded, abs=1e-4)
    of_new = fitted.score(gaussian(20_000, seed=1)) > 1
    assert of_new.mean() == pytest.approx(exceeded, rel=0.5)


def test_a_small_step_where_nothing_varies_is_out_of_distribution():
    fitted = fit_out_of_distribution(gaussian(1000))
    # Along each axis of the features, by the same step: one is hardly noticed.
    turn = np.linalg.svd(np.cov(gaussian(1000), rowvar=False))[2]
    steps = fitted.score(fitted.location + 8 * turn)
    assert steps[0] < 0.5
    assert steps[2] > 1


def test_constant_feature():
    features = np.insert(gaussian(300), 1, 7.0, axis=1)
    fitted = fit_out_of_distribution(features)
    assert np.isfinite(fitted.whitening).all()
    other = features[:1] + 100 * np.eye(4)[1]
    assert fitted.score(features).max() < 1.2
    assert fitted.score(other) > 10


def test_fewer_shots_than_features():
    features = np.random.default_rng(0).normal(size=(10, 40)).astype(np.float32)
    assert np.isfinite(fit_out_of_distribution(features).score(features)).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((9, 4)), "features of all 9 held-out shots are equal"),
        (np.ones((1, 4)), "features of all 1 held-out shots are equal"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), "not all finite"),
    ],
)
def test_features_that_say_nothing(features, message):
    with pytest.raises(ValueError, match=message):
        fit_out_of_distribution(features)


@pytest.mark.parametrize(
    ("location", "whitening", "limit", "message"),
    [
        (np.zeros(2), np.zeros((2, 3)), 1, r"location \(2,\) and a whitening \(2, 3\)"),
        (np.zeros((2, 1)), np.zeros((2, 2)), 1, "not \\(f,\\) and"),
        (np.array([np.nan]), np.ones((1, 1)), 1, "not finite"),
        (np.zeros(1), np.full((1, 1), np.inf), 1, "not finite"),
        (np.zeros(1), np.ones((1, 1)), 0, "limit=0, not over 0"),
        (np.zeros(1), np.ones((1, 1)), np.nan, "limit=nan"),
    ],
)
def test_what_cannot_be(location, whitening, limit, message):
    with pytest.raises(ValueError, match=message):
        OutOfDistribution(location, whitening, limit)


def test_out_of_distribution_is_a_score_over_1():
    scores = [0.0, 1.0, 1.001, None]
    assert [is_out_of_distribution(s) for s in scores] == [False, False, True, None]


def test_core_needs_no_dials():
    code = """
import sys
for name in ("dials", "dxtbx", "libtbx", "wx"):
    sys.modules[name] = None
import dials_cnn_screen.screening.decision, dials_cnn_screen.spots.out_of_distribution
import dials_cnn_screen.models.model_file
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
