"""What a live run has come to, in numbers."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.live.account import Account
from dials_cnn_screen.live.arrivals import Done
from dials_cnn_screen.live.run import FULL
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import decide

HIT, MISS = (0.9, 0.05, 0.05), (0.0, 0.0, 1.0)


def done(place, p, error=None, seconds=0.1):
    prediction = None if p is None else make_prediction(p)
    result = decide(ImageName("a", place + 1), prediction, error, Decision())
    return Done(place, None, result, time.monotonic(), seconds)


@pytest.fixture
def account():
    """600 hits, 200 misses, 100 that were not classified."""
    account = Account("somewhere", [])
    kinds = [(HIT, None)] * 600 + [(MISS, None)] * 200 + [(None, FULL)] * 100
    for place, (p, error) in enumerate(kinds):
        account.add(done(place, p, error, seconds=place / 1000))
    return account


def test_the_status(account):
    status = account.as_json("running", (3, 0.25), 7, {"some": 1})
    assert status["images"] == {
        "done": 900,
        "classified": 800,
        "hit": 600,
        "maybe": 0,
        "miss": 200,
        "kept": 700,
        "not_classified": 100,
        "queue_full": 100,
        "repeated": 7,
    }
    assert status["hit_rate"]["percent"] == 75.0
    assert status["recent"] == {"images": 500, "hits": 300}
    assert status["behind"] == {"images": 3, "seconds": 0.25}
    # Of 0.300, 0.301 ... 0.799.
    assert status["latency"] == {"median": 0.5495, "p99": 0.794}
    assert len(status["latest_not_classified"]) == 20
    json.dumps(status, allow_nan=False)


def test_rates_over_time(account):
    edges, hits, kept, sizes = account.in_blocks()
    assert edges[0] == 0
    # More than fit into a byte.
    assert (hits.sum(), kept.sum(), sizes.sum()) == (600, 600, 800)
    assert np.all(hits <= sizes)


def test_nothing_came():
    account = Account("somewhere", [])
    status = account.as_json("running", (0, 0.0), 0, {})
    assert status["hit_rate"] == {"percent": None, "interval": [0.0, 100.0]}
    assert status["latency"] is None
    json.dumps(status, allow_nan=False)
    _, hits, _, sizes = account.in_blocks()
    assert hits.sum() == sizes.sum() == 0


def test_what_was_there_before_a_run_was_resumed():
    before = [done(0, HIT).result, done(1, None, "broken").result]
    account = Account("somewhere", before)
    images = account.as_json("running", (0, 0.0), 0, {})["images"]
    assert (images["done"], images["hit"], images["not_classified"]) == (2, 1, 1)
