from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.util.intervals import wilson_interval
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.run import Judgement
from dials_cnn_screen.screening.summary import (
    keep_scores,
    mean_seconds,
    strangest,
    summarise,
    tell_unlike,
    unlike_training,
    write_json,
)
from dials_cnn_screen.spots.candidates import CandidateSearch

JUDGEMENTS = [
    Judgement(np.array([0.7, 0.2, 0.1]), None, (1.0, 2.0, 3.0), strangeness=1.0),
    Judgement(None, 'no "picture"\tat all', (9.0, 0.0, 0.0)),
    Judgement(
        np.array([0.12344, 0.12346, 0.7531]),
        None,
        (3.0, 4.0, 5.0),
        spots=np.array([[3, 40], [5, 0]]),
        strangeness=1.2346,
    ),
]


@pytest.fixture
def results() -> dict:
    stills = [SimpleNamespace(file="run ü.h5", frame=i + 1) for i in range(3)]
    model = SimpleNamespace(
        name="m",
        sha256="0",
        architecture="a",
        trained_on="t",
        preprocessing=CandidateSearch(most=7),
        familiarity="some",
    )
    kept = np.array([True, True, False])
    return summarise(stills, JUDGEMENTS, kept, model, Decision(0.4))


def test_summary_adds_up(results):
    summary = results["summary"]
    assert summary == {
        "images": 3,
        "hit": 1,
        "maybe": 0,
        "miss": 1,
        "failed": 1,
        "kept": 2,
        "unlike": 1,
    }
    assert [image["class"] for image in results["images"]] == ["Hit", None, "Miss"]
    assert results["images"][2]["p_hit"] == 0.1234
    assert results["images"][2]["p_maybe"] == 0.1235


def test_decision(results):
    assert results["decision"] == {
        "threshold": 0.4,
        "max_hit_loss": None,
        "rests_on": None,
        "calibration_hits": None,
        "keep_misses": 0.0,
        "seed": 0,
    }


def test_spots_of_each_image(results):
    assert [image["n_spots"] for image in results["images"]] == [None, None, 2]
    assert results["images"][0]["spots"] is None
    assert results["images"][2]["spots"] == [[3, 40], [5, 0]]
    assert results["model"]["most_spots"] == 7


def test_what_is_unlike_training(results):
    column = [image["unlike_training"] for image in results["images"]]
    assert column == [False, None, True]
    column = [image["strangeness"] for image in results["images"]]
    assert column == [1.0, None, 1.235]
    assert unlike_training(JUDGEMENTS).tolist() == [False, False, True]
    assert strangest(results) == [results["images"][2]]
    assert tell_unlike(results) == (
        "1 of 3 images is unlike anything the model was trained on; it is kept; look "
        "at it"
    )


def test_json_is_what_it_was(results, tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, results)
    assert json.loads(path.read_text(encoding="utf-8")) == results
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sum('"index"' in line for line in lines) == 3
    assert len([line for line in lines if '"index": 1,' in line]) == 1


def test_what_cannot_be_judged_has_no_score():
    np.testing.assert_allclose(keep_scores(JUDGEMENTS), [0.9, np.nan, 0.2469])


def test_mean_seconds_is_of_the_judged():
    np.testing.assert_allclose(mean_seconds(JUDGEMENTS), [2, 3, 4])


def test_mean_seconds_of_nothing():
    assert np.isnan(mean_seconds(JUDGEMENTS[1:2])).all()


@pytest.mark.parametrize(
    ("count", "total", "interval"),
    [
        # Newcombe (1998), Statist. Med. 17, 857, Table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilson_interval(count, total, interval):
    assert wilson_interval(count, total) == pytest.approx(interval, abs=5e-5)
