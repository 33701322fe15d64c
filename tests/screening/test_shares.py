from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.screening.shares import adapt, estimate_shares

CALIBRATION = np.array([0.4, 0.2, 0.4])


def draw(shares, n=4000, seed=0):
    """Labels, and probabilities that are right where classes are as in CALIBRATION."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=shares)
    # What is measured of an image: one number, normal about 4, 2 and 0.
    x = rng.normal(4 - 2 * labels, 1)
    likelihood = np.exp(-0.5 * (x[:, None] - np.array([4, 2, 0])) ** 2)
    p = likelihood * CALIBRATION
    return labels, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "shares", [(0.05, 0.05, 0.9), (0.4, 0.2, 0.4), (0.8, 0.1, 0.1)]
)
def test_shares_are_found_without_labels(shares):
    labels, p = draw(shares)
    found = estimate_shares(p, CALIBRATION)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, np.bincount(labels) / len(labels), atol=0.02)


def test_adapted_probabilities_hold():
    """Where misses are common the model's own are too high by far."""
    labels, p = draw((0.03, 0.03, 0.94), n=20_000, seed=1)
    adapted = adapt(p, estimate_shares(p, CALIBRATION), CALIBRATION)
    np.testing.assert_allclose(adapted.sum(axis=1), 1)
    is_hit = labels != 2
    doubtful = (p[:, 2] > 0.3) & (p[:, 2] < 0.7)
    before, after = 1 - p[doubtful, 2].mean(), 1 - adapted[doubtful, 2].mean()
    rate = is_hit[doubtful].mean()
    assert before - rate > 0.2
    assert after == pytest.approx(rate, abs=0.05)


def test_certain_images_are_counted():
    p = np.eye(3)[[0, 0, 0, 2]]
    np.testing.assert_allclose(estimate_shares(p, CALIBRATION), [0.75, 0, 0.25])
