from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("scipy")

from matplotlib import image as pictures

from dials_cnn_screen.architecture import Explanation, Mark, Overlay
from dials_cnn_screen.explain.reasons import draw_overlay, find_reason, mark_colour
from dials_cnn_screen.explain.results import ImageOnMap
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import decide

NAME = ImageName("run.h5")
STILL = Still(None, 0, NAME, [0])
SOURCE = Source()
HIT, MAYBE = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)


def image(label=None, p=HIT) -> ImageOnMap:
    """An image of these probabilities, and a label of the expert."""
    prediction = None if p is None else make_prediction(p)
    error = "no" if p is None else None
    result = decide(NAME, prediction, error, Decision())
    return ImageOnMap(0, STILL, NAME, result, label, None, None, [])


@pytest.fixture
def show(monkeypatch):
    """Function show(data, beam_centre): this is then the frame of every still."""

    def show(data, beam_centre) -> None:
        frame = Frame(data.astype("f4"), np.ones(data.shape, dtype=bool), beam_centre)
        monkeypatch.setattr(SOURCE, "read", lambda still: frame)

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
    reason = find_reason(image(Label.MAYBE), load_model(level_model), SOURCE)
    assert reason.shape == (100, 120)
    assert reason.numbers == {"label": "Maybe", "sensitive": 64, "pixels": 1024}
    marked = {(mark.slow, mark.fast) for mark in reason.marks}
    assert {(slow + 1, fast + 1) for slow, fast in bright} <= marked
    assert len(reason.close_ups) == 8
    # The same, on the picture that lies on the frame.
    overlay = reason.overlay
    assert (overlay.slow, overlay.fast, overlay.size) == (*corner, 64)
    picture = pictures.imread(io.BytesIO(base64.b64decode(overlay.png)))
    assert picture.shape == (32, 32, 4)
    assert np.count_nonzero(picture[..., 3]) == 64
    for slow, fast in bright:
        assert picture[(slow - corner[0]) // 2, (fast - corner[1]) // 2, 3] > 0.5


def test_the_label_is_the_experts_or_the_predicted(show, level_model):
    show(np.full((100, 120), 150.0) + np.arange(120), (40.0, 60.0))
    model = load_model(level_model)
    assert find_reason(image(Label.MISS), model, SOURCE).numbers["label"] == "Miss"
    own = find_reason(image(p=MAYBE), model, SOURCE)
    assert own.sentences[0] == "The loss is that of Maybe, the predicted class."


def test_no_pixel_counts_more(show, level_model):
    show(np.full((100, 120), 150.0), (-500.0, 60.0))
    model = load_model(level_model)
    model.network.classifier.weight.data.zero_()
    reason = find_reason(image(Label.HIT), model, SOURCE)
    assert reason.marks == reason.close_ups == []


def test_marks_that_count_most_lie_on_top_and_have_close_ups(show):
    show(np.random.default_rng(0).poisson(100, (200, 200)), (100.0, 100.0))
    shares = [0.1, -1.0, 0.5, 0.0, 0.2, -0.3, 0.4, -0.6, 0.7, 0.8]
    marks = [Mark(10 * i, 50, share, True, "") for i, share in enumerate(shares)]
    asked = []

    def explain(*arguments):
        asked.append(arguments[3:])
        return Explanation(["So."], marks, {"n": 10})

    # Of any architecture.
    model = SimpleNamespace(
        entry=SimpleNamespace(explain=explain),
        network=None,
        preparation=None,
        calibration=Calibration(temperature=2.5),
    )
    reason = find_reason(image(Label.MISS), model, SOURCE)
    assert asked == [(2.5, Label.HIT, Label.MISS)]
    assert (reason.sentences, reason.numbers) == (["So."], {"n": 10})
    assert [abs(mark.share) for mark in reason.marks] == sorted(map(abs, shares))
    assert [mark for mark, _ in reason.close_ups] == reason.marks[:-9:-1]
    jpegs = [base64.b64decode(jpeg) for _, jpeg in reason.close_ups]
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in jpegs)
    assert reason.overlay is None


def test_candidates_have_circles(show, spot_model):
    data = np.random.default_rng(0).poisson(100, (200, 200))
    data[30, 40] += 900
    show(data, (100.0, 100.0))
    reason = find_reason(image(), load_model(spot_model), SOURCE)
    (large,) = [mark for mark in reason.marks if mark.large]
    assert (large.slow, large.fast) == (30, 40)
    assert len(reason.marks) == len(reason.numbers["candidates"])


def test_nothing_stands_out(show, spot_model):
    show(np.full((200, 200), 7.0), (100.0, 100.0))
    reason = find_reason(image(), load_model(spot_model), SOURCE)
    assert reason.sentences == ["Nothing on the frame stands out from the background."]
    assert reason.marks == reason.close_ups == reason.numbers["candidates"] == []


def test_what_could_not_be_classified_has_no_reason(spot_model):
    with pytest.raises(ValueError, match=r"run.h5 \[1\] could not be classified: no"):
        find_reason(image(p=None), load_model(spot_model), SOURCE)


@pytest.mark.parametrize(
    ("share", "colour"), [(1, "#b2182b"), (-1, "#2166ac"), (0, "#787878")]
)
def test_colours(share, colour):
    assert mark_colour(share) == colour


def test_overlay_is_the_less_transparent_the_farther_from_0():
    values = np.zeros((4, 4))
    values[0, :3] = [3.0, -6.0, 12.0]
    overlay = draw_overlay(Overlay(values, 3.0, -8, 5, binning=2))
    assert (overlay.slow, overlay.fast, overlay.size) == (-8, 5, 8)
    picture = pictures.imread(io.BytesIO(base64.b64decode(overlay.png)))
    shades = np.round(255 * picture).astype(int).tolist()
    assert shades[0][0] == [178, 24, 43, 130]
    assert shades[0][1] == [33, 102, 172, 130 + int(125 / 3**0.5)]
    assert shades[0][2] == [178, 24, 43, 255]
    assert not picture[1:, :, 3].any()
