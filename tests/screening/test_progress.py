from __future__ import annotations

import logging

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening import progress as module
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.progress import Progress, follow, format_seconds
from dials_cnn_screen.screening.results import decide

HIT, MISS = (
    decide(ImageName("a.h5"), make_prediction(p), None, Decision())
    for p in ([1, 0, 0], [0, 0, 1])
)


@pytest.fixture
def clock(monkeypatch):
    """The time, which only the test moves."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_one_line(clock):
    progress = Progress(2000)
    for result in [MISS] * 900 + [HIT] * 100:
        progress.add(result)
    clock[0] += 50
    assert str(progress) == (
        "1000 of 2000 images, 20.0 images/s, hits 10.0 (8.3-12.0)%, "
        "of the last 500 20.0 (16.7-23.7)%, 50 s left"
    )


def test_resumed_images_do_not_count_for_speed(clock):
    progress = Progress(1000, [HIT] * 800)
    for _ in range(100):
        progress.add(MISS)
    clock[0] += 10
    assert "900 of 1000 images, 10.0 images/s" in str(progress)
    assert str(progress).endswith("10 s left")


def test_before_the_first_image(clock):
    assert str(Progress(5)) == "0 of 5 images, 0.0 images/s, hits none, 0 s left"


def test_lines_now_and_then(clock, caplog):
    def results():
        for place in range(100):
            clock[0] += 1
            yield place, HIT

    caplog.set_level(logging.INFO, "dials.cnn_screen")
    assert len(list(follow(results(), 100))) == 100
    assert [m.split(" of ")[0] for m in caplog.messages] == ["31", "62", "93"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text
