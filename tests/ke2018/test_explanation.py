from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from dials_cnn_screen.architecture import Explanation
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model


@pytest.fixture
def explain(level_model):
    """Function explain(data, predicted, labelled) -> Explanation by level_model."""
    model = load_model(level_model)

    def explain(data, predicted, labelled, beam_centre=(40.0, 60.0)) -> Explanation:
        frame = Frame(data.astype("f4"), np.ones(data.shape, dtype=bool), beam_centre)
        return model.entry.explain(
            model.network, model.preparation, frame, 1.0, predicted, labelled
        )

    explain.model = model
    return explain


RAMP = np.full((100, 120), 150.0) + np.arange(120)


def test_label_of_the_loss(explain):
    own = explain(RAMP, Label.MAYBE, None)
    assert own.sentences[0] == "The loss is that of Maybe, the predicted class."
    assert own.numbers["label"] == "Maybe"
    given = explain(RAMP, Label.MAYBE, Label.MISS)
    assert given.sentences[0] == "The loss is that of Miss, the expert's label."
    assert given.numbers["label"] == "Miss"


# Brighter is more of a Hit to this model: the one colour for Miss, another for Hit.
@pytest.mark.parametrize(("label", "sign"), [(Label.MISS, 1), (Label.HIT, -1)])
def test_sign_of_marks(explain, label, sign):
    marks = explain(RAMP, Label.MAYBE, label).marks
    assert {np.sign(mark.share) for mark in marks} == {sign}


def test_overlay_lies_where_the_network_sees(explain):
    # 32 x 32 bins of 2 x 2 pixels about the beam.
    explained = explain(RAMP, Label.HIT, None)
    overlay = explained.overlay
    assert (overlay.slow, overlay.fast) == (40 - 32, 60 - 32)
    assert (overlay.binning, overlay.threshold) == (2, 3.0)
    assert overlay.values.shape == (32, 32)
    shown = overlay.values[overlay.values != 0]
    assert np.abs(shown).min() > 3
    assert explained.numbers["sensitive"] == len(shown)
    assert f"{len(shown)} of the 1024 pixels" in explained.sentences[1]
    for mark in explained.marks:
        row = (mark.slow - overlay.slow) // 2
        column = (mark.fast - overlay.fast) // 2
        assert mark.text.startswith(f"{overlay.values[row, column]:+.1f} standard")


def test_no_pixel_counts_more(explain):
    explain.model.network.classifier.weight.data.zero_()
    explained = explain(np.full((100, 120), 150.0), Label.HIT, None, (-500.0, 60.0))
    assert explained.marks == []
    assert explained.sentences[-1].startswith("Its gradient is the same everywhere")
