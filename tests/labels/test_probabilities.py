from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import classify, log_odds, p_keep, softmax


def test_softmax_is_equation_3():
    z = [0.5, -1.0, 2.0]
    total = sum(math.exp(x) for x in z)
    np.testing.assert_allclose(softmax(z), [math.exp(x) / total for x in z], rtol=1e-14)


def test_temperature_divides_the_logits():
    z = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(softmax(z, 2.5), softmax(z / 2.5))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_do_not_overflow(size):
    p = softmax(np.array([size, size, size - 1], dtype=np.float32))
    np.testing.assert_allclose(p, softmax([1.0, 1.0, 0.0]))


def test_p_keep_adds_hit_and_maybe():
    p = np.array([[0.6, 0.3, 0.1], [0.0, 0.25, 0.75]])
    np.testing.assert_allclose(p_keep(p), [0.9, 0.25])


def test_p_keep_is_never_above_1():
    p = softmax(np.random.default_rng(0).normal(0, 30, (1000, 3)))
    assert (p[:, 0] + p[:, 1]).max() > 1
    assert p_keep(p).max() == 1


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
    assert classify(np.array(p)) == label


def test_classify_many():
    p = [[[0.6, 0.3, 0.1], [0.2, 0.35, 0.45]], [[0.3, 0.15, 0.55], [0.25, 0.25, 0.5]]]
    assert classify(p).tolist() == [[Label.HIT, Label.MAYBE], [Label.MISS, Label.HIT]]


def test_log_odds():
    z = np.array([[0.5, -1.0, 2.0], [10.0, 0.0, -3.0]])
    keep = p_keep(softmax(z, 2.5))
    np.testing.assert_allclose(log_odds(z, 2.5), np.log(keep / (1 - keep)))
    # Where the probabilities are 1 and 0 the odds are still finite.
    np.testing.assert_allclose(log_odds([0, -2000, 1000], 1.0), -1000)
