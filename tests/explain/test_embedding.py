from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from dials_cnn_screen.explain.embedding import (
    check_scikit_learn,
    embed,
    nearest,
    perplexity,
    why_no_map,
)


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    """Features of two groups of 15 images, in turn."""
    features = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    features[::2] += 20
    return features


def test_groups_lie_apart(groups):
    positions = embed(groups, seed=0)
    assert positions.shape == (30, 2)
    assert positions.dtype == np.float64
    assert positions.min() >= 0
    assert positions.max() <= 1
    np.testing.assert_allclose(np.ptp(positions, axis=0).max(), 1)
    np.testing.assert_allclose(positions.min(axis=0) + positions.max(axis=0), 1)
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert np.all(distance.argmin(axis=1) % 2 == np.arange(30) % 2)


def test_same_seed_same_map(groups):
    np.testing.assert_array_equal(embed(groups, seed=3), embed(groups, seed=3))


@pytest.mark.parametrize(("n", "expected"), [(10, 3), (31, 10), (91, 30), (5000, 30)])
def test_perplexity(n, expected):
    assert perplexity(n) == expected


def test_fewest_images_that_have_a_map(groups):
    assert embed(groups[:10], seed=0).shape == (10, 2)
    with pytest.raises(ValueError, match=r"takes 10 images .* there are 9"):
        embed(groups[:9], seed=0)
    assert why_no_map(groups[:1]).endswith("and there is 1")


def test_equal_images_have_no_map(groups):
    assert why_no_map(groups) == ""
    same = np.repeat(groups[:1], 12, axis=0)
    assert "feature vectors of all 12 images are the same" in why_no_map(same)


def test_nearest_first():
    features = np.array([[0.0, 0], [1, 0], [0, 3], [7, 0]])
    indices, distances = nearest(features, 2)
    np.testing.assert_array_equal(indices, [[1, 2], [0, 2], [0, 1], [1, 0]])
    np.testing.assert_allclose(distances[0], [1, 3])
    np.testing.assert_allclose(distances[3], [6, 7])


@pytest.mark.parametrize(("n", "k"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_as_many_as_there_are(n, k):
    indices, distances = nearest(np.arange(2.0 * n).reshape(n, 2), 5)
    assert indices.shape == distances.shape == (n, k)


def test_scikit_learn_is_asked_for(monkeypatch):
    check_scikit_learn()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"install python3-sklearn \(Debian\)"):
        check_scikit_learn()
