from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.evaluation.differences import (
    compare_independent,
    compare_paired,
    mcnemar,
)


def flags(*runs: tuple[int, bool]) -> np.ndarray:
    """So many of each, one after the other."""
    return np.concatenate([np.full(n, value) for n, value in runs])


def test_rates_of_the_same_images():
    """36 images count in both, 12 in the first alone, 2 in the second alone."""
    first = flags((36, True), (12, True), (2, False))
    second = flags((36, True), (12, False), (2, True))
    rate = compare_paired("Kept", first, second)
    assert rate.counts == (48, 38)
    assert rate.totals == (50, 50)
    assert rate.only == (12, 2)
    assert rate.difference == pytest.approx(0.2)
    # Newcombe (1998), Stat. Med. 17, 2635, table III, method 10.
    assert rate.interval == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert rate.p_value == pytest.approx(212 / 2**14)
    assert rate.as_json() == {
        "name": "Kept",
        "counts": [48, 38],
        "totals": [50, 50],
        "percent": [96.0, 76.0],
        "interval_percent": [[86.54, 98.9], [62.59, 85.7]],
        "difference_percent": 20.0,
        "difference_interval_percent": [5.69, 34.04],
        "only": [12, 2],
        "p_value": rate.p_value,
    }


def test_rates_of_different_images():
    """56 of 70 and 48 of 80: Newcombe (1998), Stat. Med. 17, 873, table II (a)."""
    rate = compare_independent("Hit", (56, 48), (70, 80))
    assert rate.difference == pytest.approx(0.2)
    assert rate.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert rate.only is None
    assert rate.p_value is None


@pytest.mark.parametrize(
    ("only", "p"), [((0, 0), 1.0), ((5, 5), 1.0), ((0, 6), 2 / 64), ((1, 7), 18 / 256)]
)
def test_mcnemar_is_exact(only, p):
    assert mcnemar(*only) == pytest.approx(p)
    assert mcnemar(*only[::-1]) == pytest.approx(p)


def test_many_images():
    """Products of counts are beyond 64 bits."""
    first = flags((400_000, True), (100_000, False))
    rate = compare_paired("Kept", first, ~first)
    low, high = rate.interval
    assert rate.difference == pytest.approx(0.6)
    assert low < 0.6 < high
    assert high - low < 0.01
