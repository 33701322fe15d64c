from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.util.intervals import (
    area_interval,
    bootstrap_interval,
    difference_interval,
    format_interval,
    format_percent,
    paired_difference_interval,
    wilson_interval,
)


def test_wilson_interval():
    # 81 of 263 (Newcombe, 1998, Stat. Med. 17, 857, Table I, method 3).
    assert np.round(wilson_interval(81, 263), 4).tolist() == [0.2553, 0.3662]
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(20, 20)[1] == 1.0


def test_a_rate_and_its_interval_as_text():
    assert format_percent(81, 263) == "30.8 (25.5-36.6)"
    assert format_percent(81, 263, digits=2) == "30.80 (25.53-36.62)"
    assert format_percent(0, 0) == "none"


def test_an_interval_as_text():
    assert format_interval(0.902, 0.9541) == "(90.2-95.4)"
    assert format_interval(-0.031, 0.054) == "(-3.1 to 5.4)"


def test_bootstrap_interval_of_a_fraction_is_the_binomial_one():
    rng = np.random.default_rng(3)
    positive = np.arange(800) < 400
    kept = rng.random(800) < 0.3
    low, high = bootstrap_interval(lambda i: kept[i][positive[i]].mean(), positive)
    rate = kept[positive].mean()
    half = 1.96 * np.sqrt(rate * (1 - rate) / 400)
    np.testing.assert_allclose([low, high], [rate - half, rate + half], atol=0.01)


def test_bootstrap_keeps_the_number_of_each_kind():
    positive = np.arange(10) < 3
    interval = bootstrap_interval(
        lambda i: [positive[i].sum(), len(i), len(set(i))], positive, n_samples=50
    )
    np.testing.assert_array_equal(interval[:, 0], [3, 3])
    np.testing.assert_array_equal(interval[:, 1], [10, 10])
    assert interval[0, 2] < 10
    again = bootstrap_interval(
        lambda i: [positive[i].sum(), len(i), len(set(i))], positive, n_samples=50
    )
    np.testing.assert_array_equal(interval, again)


def test_interval_of_an_area_at_its_ends():
    """Nothing wrong among few images is no proof that nothing ever will be."""
    low, high = area_interval(1.0, 28, 42)
    assert high == 1.0
    assert 0.85 < low < 0.97
    # A coin's, with its mirror image.
    np.testing.assert_allclose(area_interval(0.0, 28, 42), (0, 1 - low), atol=1e-9)
    low, high = area_interval(0.5, 10, 10)
    assert low + high == pytest.approx(1)


def test_interval_of_a_difference():
    # 56 of 70 and 48 of 80 (Newcombe, 1998, Table II, a, method 10).
    first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    low, high = difference_interval(0.8, first, 0.6, second)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        # Newcombe (1998), Stat. Med. 17, 2635, table III, method 10.
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        # Fagerland, Lydersen & Laake (2014), Stat. Med. 33, 2850, of Bentur et al.
        ((1, 1, 7, 12), (-0.5069, -0.0256)),
        # Nothing is known of the correlation.
        ((0, 0, 0, 5), (-0.4345, 0.4345)),
    ],
)
def test_interval_of_a_difference_of_the_same_images(counts, interval):
    both, first, second, neither = counts
    found = paired_difference_interval(both, first, second, neither)
    assert found == pytest.approx(interval, abs=5e-5)
    mirrored = paired_difference_interval(both, second, first, neither)
    assert mirrored == pytest.approx((-interval[1], -interval[0]), abs=5e-5)


def test_same_images_tell_small_differences():
    """10 of 1000 images apart, of rates near a half."""
    low, high = paired_difference_interval(500, 10, 0, 490)
    assert 0 < low < 0.01 < high < 0.02
    rates = [(n / 1000, wilson_interval(n, 1000)) for n in (510, 500)]
    low, high = difference_interval(*rates[0], *rates[1])
    assert low < -0.03
