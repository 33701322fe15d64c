from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dials_cnn_screen.architecture import Explanation
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.candidates import CandidateSearch

SPOTS = find_architecture("spots")


def explain(network, data, most=16) -> Explanation:
    frame = Frame(data.astype("f4"), np.ones(data.shape, dtype=bool), (100.0, 100.0))
    search = CandidateSearch(most=most)
    return SPOTS.explain(network, search, frame, 1.0, Label.HIT, None)


def noise_with_spots(n_spots: int) -> np.ndarray:
    """A frame of noise, and spots at (30, 30), (30, 60) ..."""
    data = np.random.default_rng(0).poisson(100, (300, 300))
    data[30, 30 * np.arange(1, n_spots + 1)] += 900
    return data


@pytest.fixture
def always_hit(spot_model):
    """The network of spot_model, to which every frame is a Hit."""
    return load_model(spot_model).network


@pytest.fixture
def counter(always_hit):
    """The same, but z(Hit) is twice the number of spots less 7, and none is a Maybe."""
    with torch.no_grad():
        for layer in (always_hit.count[0], always_hit.count[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        always_hit.spot[-1].weight[0, 0] = 20
        always_hit.spot[-1].bias[:] = -20 * math.asinh(15)
        # The last feature is the number of spots, divided by 20.
        always_hit.count[0].weight[0, -1] = 1
        always_hit.count[-1].weight[0, 0] = 40
        always_hit.count[-1].bias[:] = torch.tensor([-7.0, -100, 0])
    return always_hit


def test_every_candidate_has_a_mark_and_its_numbers(counter):
    explained = explain(counter, noise_with_spots(5))
    assert len(explained.marks) == len(explained.numbers["candidates"]) == 16
    for mark, numbers in zip(
        explained.marks, explained.numbers["candidates"], strict=True
    ):
        assert (mark.slow, mark.fast) == (numbers["slow"], numbers["fast"])
        assert mark.large == (numbers["p_spot"] > 0.5) == (mark.slow == 30)
        assert mark.share == pytest.approx(float(mark.large), abs=1e-3)
    assert explained.overlay is None


def test_sentences_of_a_hit(counter):
    explained = explain(counter, noise_with_spots(5))
    first, marks, best, last = explained.sentences
    assert first.startswith(
        "The model found 16 candidates, the strongest local maxima; 5 are likelier "
        "Bragg spots than not. By the rule of the paper a Hit has 10 spots or more"
    )
    assert marks.startswith("Spots have large marks, other candidates small ones. Red")
    assert "counts most for a hit: without it P(Hit) + P(Maybe) would be" in best
    assert best.startswith("The candidate at (30, ")
    assert best.endswith("0.731 instead of 0.953.")
    assert last == "Without the 2 likeliest spots it would be a Miss."
    assert explained.numbers["deciding"] == 2


def test_one_spot_decides(counter):
    explained = explain(counter, noise_with_spots(4))
    assert explained.sentences[-1] == "Without the likeliest spot it would be a Miss."


def test_candidate_that_counts_against_a_hit(counter):
    with torch.no_grad():
        counter.count[-1].weight[0, 0] = -40
        counter.count[-1].bias[0] = 2
    sentences = explain(counter, noise_with_spots(1)).sentences
    assert "1 is likelier a Bragg spot than not" in sentences[0]
    assert sentences[2].startswith(
        "The candidate at (30, 30) counts most against a hit"
    )


def test_candidates_that_change_nothing(always_hit):
    data = np.random.default_rng(0).poisson(100, (200, 200))
    data[30, 40] += 900
    explained = explain(always_hit, data)
    assert "1 is likelier a Bragg spot than not" in explained.sentences[0]
    assert explained.sentences[2].startswith("No single candidate changes P(Hit)")
    # To this model every frame is a Hit, whatever is on it.
    assert explained.sentences[-1].startswith("Without any of them it would still not")
    (large,) = [mark for mark in explained.marks if mark.large]
    assert (large.slow, large.fast) == (30, 40)
    assert large.text.startswith("P(spot) 0.76, weight +0.00; without it")


def test_nothing_stands_out(always_hit):
    explained = explain(always_hit, np.full((200, 200), 7.0))
    sentence = "Nothing on the frame stands out from the background."
    assert explained.sentences == [sentence]
    assert explained.marks == explained.numbers["candidates"] == []
