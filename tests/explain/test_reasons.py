from __future__ import annotations

import base64
import io

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("scipy")

from matplotlib import image as pictures

from dials_cnn_screen.explain import reasons
from dials_cnn_screen.explain.reasons import Mark, find_reason
from dials_cnn_screen.images.frames import Frame
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.models.model_file import load_model

STILL = Still(None, 0, "run.h5", 1, [0])


def entry(label=None, class_="Hit", p_hit=0.8) -> dict:
    p_maybe, p_miss = 0.1, 0.9 - p_hit
    probabilities = {"p_hit": p_hit, "p_maybe": p_maybe, "p_miss": p_miss}
    return {**probabilities, "class": class_, "label": label}


@pytest.fixture
def show(monkeypatch):
    """Function show(data, beam_centre): this is then the frame of every still."""

    def show(data, beam_centre) -> None:
        frame = Frame(data.astype("f4"), np.ones(data.shape, dtype=bool), beam_centre)
        monkeypatch.setattr(reasons, "read_frame", lambda imageset, index: frame)

    return show


def test_sensitive_pixels_are_marked_where_they_are(show, level_model):
    # The network sees 32 x 32 bins of 2 x 2 pixels about the beam, every second bin of
    # them, and of these the brightest of each 2 x 2.
    data = np.full((100, 120), 150.0)
    corner = (40 - 32, 60 - 32)
    bright = [(corner[0] + 4 * i, corner[1] + 4 * j) for i, j in [(3, 4), (8, 9)]]
    for slow, fast in bright:
        data[slow : slow + 2, fast : fast + 2] = 190
    show(data, (40.0, 60.0))
    reason = find_reason(entry("Maybe"), STILL, load_model(level_model))
    assert reason.shape == (100, 120)
    assert reason.numbers == {"label": "Maybe", "sensitive": 64, "pixels": 1024}
    marked = {(mark.slow, mark.fast) for mark in reason.marks}
    assert {(slow + 1, fast + 1) for slow, fast in bright} <= marked
    assert len(reason.close_ups) == 8
    # The same, on the picture that lies on the frame.
    overlay = reason.overlay
    assert (overlay["slow"], overlay["fast"], overlay["size"]) == (*corner, 64)
    picture = pictures.imread(io.BytesIO(base64.b64decode(overlay["png"])))
    assert picture.shape == (32, 32, 4)
    assert np.count_nonzero(picture[..., 3]) == 64
    for slow, fast in bright:
        assert picture[(slow - corner[0]) // 2, (fast - corner[1]) // 2, 3] > 0.5


def test_label_of_the_loss(show, level_model):
    show(np.full((100, 120), 150.0) + np.arange(120), (40.0, 60.0))
    model = load_model(level_model)
    assert find_reason(entry("Miss"), STILL, model).numbers["label"] == "Miss"
    own = find_reason(entry(class_="Maybe"), STILL, model)
    assert own.words[0] == "The loss is for the label Maybe, the model's own answer."
    # Brighter is more of a Hit to this model: the one colour for Miss, another for Hit.
    for label, sign in (("Miss", 1), ("Hit", -1)):
        marks = find_reason(entry(label), STILL, model).marks
        assert {np.sign(mark.share) for mark in marks} == {sign}


def test_no_pixel_counts_more(show, level_model):
    show(np.full((100, 120), 150.0), (-500.0, 60.0))
    model = load_model(level_model)
    model.network.classifier.weight.data.zero_()
    reason = find_reason(entry("Hit"), STILL, model)
    assert reason.marks == reason.close_ups == []
    assert reason.words[-1].startswith("Its gradient is the same everywhere")


def test_candidates_in_words(show, spot_model):
    data = np.random.default_rng(0).poisson(100, (200, 200))
    data[30, 40] += 900
    show(data, (100.0, 100.0))
    reason = find_reason(entry(p_hit=0.8), STILL, load_model(spot_model))
    assert "the model takes 1 for spots" in reason.words[0]
    # To this model every frame is a Hit, whatever is on it.
    assert reason.words[-1].startswith("It would be no Miss without any of them")
    (large,) = [mark for mark in reason.marks if mark.large]
    assert (large.slow, large.fast) == (30, 40)
    assert large.words.startswith("P(spot) 0.76, weight +0.00; without it")


def test_nothing_stands_out(show, spot_model):
    show(np.full((200, 200), 7.0), (100.0, 100.0))
    reason = find_reason(entry(), STILL, load_model(spot_model))
    assert reason.words == ["Nothing on the frame stands out from the background."]
    assert reason.marks == reason.close_ups == reason.numbers["candidates"] == []


@pytest.mark.parametrize(
    ("share", "colour"), [(1, "#b2182b"), (-1, "#2166ac"), (0, "#787878")]
)
def test_colours(share, colour):
    assert Mark(0, 0, share, True, "").colour == colour
