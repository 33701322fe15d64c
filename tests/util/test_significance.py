from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.util.significance import poisson_significance


@pytest.mark.parametrize(("n", "b"), [(11, 1.0), (3.01, 0.01), (130, 100.0), (5, 5.0)])
def test_likelihood_ratio(n, b):
    expected = math.sqrt(2 * (n * math.log(n / b) - (n - b)))
    assert poisson_significance(n, b) == pytest.approx(expected)
    assert poisson_significance(n, b, n - b) == pytest.approx(expected)


def test_over_many_photons_that_of_a_gaussian():
    # 300 over a background of 10000 are three standard deviations of 100.
    assert poisson_significance(10_300, 1e4) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(("n", "b"), [(7, 0.1), (13, 1.0), (35, 10.0)])
def test_agrees_with_the_poisson_distribution(n, b):
    stats = pytest.importorskip("scipy.stats")
    gaussian = stats.norm.isf(stats.poisson.sf(n - 1, b))
    assert poisson_significance(n, b) == pytest.approx(gaussian, rel=0.15)


def test_arrays_broadcast():
    n, b = np.array([[2.0], [20.0], [200.0]]), np.array([0.5, 2.0])
    found = poisson_significance(n, b)
    assert found.shape == (3, 2)
    assert found[1, 1] == poisson_significance(20.0, 2.0)
    assert found[0, 1] == 0
    assert (np.diff(found, axis=0) > 0).all()


def test_a_known_excess_keeps_digits():
    # The excess over sqrt(b); n - b would have five digits of it, n ln(n / b) none.
    b, excess = 1e6, 1e-5
    assert poisson_significance(b + excess, b, excess) == pytest.approx(
        excess / math.sqrt(b), rel=1e-3
    )
    strong = np.array([1.0, 30.0, 1e4])
    np.testing.assert_allclose(
        poisson_significance(9.0 + strong, 9.0, strong),
        poisson_significance(9.0 + strong, 9.0),
        rtol=1e-12,
    )
