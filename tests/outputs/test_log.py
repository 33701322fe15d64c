from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs.log import format_estimate
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults, decide
from dials_cnn_screen.spots.eye import Eye

# Half of the images are hits, surely; of the others one in five is to be expected.
P = [[1.0, 0.0, 0.0], [0.1, 0.1, 0.8]]


@pytest.fixture
def results():
    model = ModelSummary("m", "0", shares=(0.4, 0.2, 0.4))
    images = [
        decide(ImageName("a.h5", i + 1), make_prediction(P[i % 2]), None, Decision())
        for i in range(60)
    ]
    return ScreeningResults(model, Decision(), images)


def test_what_is_expected_by_the_model_is_for_its_own_classes(results):
    text = format_estimate(results)
    assert text.startswith("By the probabilities of all images about ")
    assert "Misses: an estimate without labels" in text
    assert "not kept" not in text


def test_what_is_expected_by_an_eye_tells_what_is_lost(results):
    text = format_estimate(replace(results, decision=Decision(eye=Eye(9.0))))
    assert text.startswith(
        "By the probabilities of all images about 55.0% are Hits, 5.0% Maybes and "
        "40.0% Misses, and of the Hits and Maybes about 16.7% are not kept"
    )


def test_of_few_images_nothing_is_expected(results):
    assert format_estimate(replace(results, images=results.images[:40])) == ""
