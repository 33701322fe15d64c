from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs.rings import find_common, format_rings
from dials_cnn_screen.screening.decision import Decision, KeptBecause
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    ScreeningResults,
    decide,
    decide_again,
    image_from_json,
    read_results,
    write_results,
)
from dials_cnn_screen.spots.eye import Eye

DECISION = Decision(0.4)
NAMES = [ImageName("/data/run ü.h5", i + 1) for i in range(3)]
PREDICTIONS = [
    make_prediction([0.7, 0.2, 0.1], ood_score=1.0),
    None,
    make_prediction(
        [0.12344, 0.12346, 0.7531], np.array([[3, 40], [5, 0]]), ood_score=1.2346
    ),
]
ERRORS = [None, 'no "picture"\tat all', None]
SECONDS = [(1.0, 2.0, 3.0), (9.0, 0.0, 0.0), (3.0, 4.0, 5.0)]


def content_of(results: ScreeningResults) -> dict:
    """The content of cnn_screen.json, the entries of all images at once."""
    content = results.as_json()
    return {**content, "images": list(content["images"])}


@pytest.fixture
def results() -> ScreeningResults:
    rows = zip(NAMES, PREDICTIONS, ERRORS, SECONDS, strict=True)
    images = [
        decide(name, prediction, error, DECISION, seconds)
        for name, prediction, error, seconds in rows
    ]
    return ScreeningResults(ModelSummary("m", "0", "a", "t", 7), DECISION, images)


def test_summary_adds_up(results):
    assert results.summary() == {
        "images": 3,
        "hit": 1,
        "maybe": 0,
        "miss": 1,
        "failed": 1,
        "kept": 3,
        "out_of_distribution": 1,
        "not_reached": 0,
    }
    assert [image.label for image in results.images] == [Label.HIT, None, Label.MISS]
    assert [image.title for image in results.images] == [
        "Hit",
        "Could not be classified",
        "Miss",
    ]
    assert results.kept == [True, True, True]
    assert [image.kept_because for image in results.images] == [
        KeptBecause.P_KEEP,
        KeptBecause.ERROR,
        KeptBecause.OUT_OF_DISTRIBUTION,
    ]


def test_p_keep_is_of_unrounded_probabilities(results):
    entries = content_of(results)["images"]
    assert entries[2]["p_hit"] == 0.1234
    assert entries[2]["p_maybe"] == 0.1235
    assert entries[2]["p_keep"] == 0.12344 + 0.12346
    assert math.isnan(results.images[1].p_keep)


def test_decision_in_json(results):
    assert results.as_json()["decision"] == {
        "threshold": 0.4,
        "max_hit_loss": None,
        "calibrated_on": None,
        "calibration_hits": None,
        "keep_misses": 0.0,
        "seed": 0,
        "loss_of": "hits_and_maybes",
        "eye": None,
    }


def test_shares_of_the_run_are_estimated(results):
    model = dataclasses.replace(results.model, shares=(0.4, 0.2, 0.4))
    assert dataclasses.replace(results, model=model).estimate is None
    many = dataclasses.replace(results, images=50 * results.images)
    assert many.estimate is None
    known = dataclasses.replace(many, model=model).as_json()
    shares = known["estimated_shares"]
    assert list(shares) == ["hit", "maybe", "miss"]
    assert sum(shares.values()) == pytest.approx(1, abs=3e-4)
    assert known["estimated_loss"] is None
    assert many.as_json()["estimated_shares"] is None


def test_loss_by_an_eye_is_estimated():
    decision = dataclasses.replace(DECISION, threshold=0.5, eye=Eye(8.0))
    sure, doubtful = [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]
    images = [
        ImageResult(NAMES[0], make_prediction(p), None, because)
        for p, because in ((sure, KeptBecause.P_KEEP), (doubtful, None))
    ]
    results = ScreeningResults(ModelSummary("m", "0"), decision, 30 * images)
    found = results.as_json()
    assert found["estimated_shares"] == {"hit": 0.45, "maybe": 0.1, "miss": 0.45}
    # Of each pair of images 0.9 + 0.2 are to be expected, and 0.2 are not kept.
    assert found["estimated_loss"] == round(0.2 / 1.1, 4)


def test_shares_are_those_of_the_rounded_record(results):
    """A run that was resumed has the probabilities of its record, rounded."""
    name, model = NAMES[0], dataclasses.replace(results.model, shares=(0.4, 0.2, 0.4))
    for seed in range(20):
        p = np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.3], size=50)
        images = [
            decide(name, make_prediction(list(row)), None, DECISION, (0.0, 0.0, 0.0))
            for row in p
        ]
        run = ScreeningResults(model, DECISION, images)
        read = [image_from_json(entry) for entry in content_of(run)["images"]]
        resumed = dataclasses.replace(run, images=read)
        assert (
            content_of(resumed)["estimated_shares"]
            == (content_of(run)["estimated_shares"])
        )


def test_spots_of_each_image(results):
    content = content_of(results)
    assert [image["n_spots"] for image in content["images"]] == [None, None, 2]
    assert content["images"][0]["spots"] is None
    assert content["images"][2]["spots"] == [[3, 40], [5, 0]]
    assert content["model"]["max_spots"] == 7


@pytest.fixture
def format_out_of_distribution():
    pytest.importorskip("dials")
    from dials_cnn_screen.outputs import log

    return log.format_out_of_distribution


def test_out_of_distribution(results, format_out_of_distribution):
    entries = content_of(results)["images"]
    assert [e["out_of_distribution"] for e in entries] == [False, None, True]
    assert [e["ood_score"] for e in entries] == [1.0, None, 1.2346]
    assert results.out_of_distribution == [results.images[2]]
    assert format_out_of_distribution(results) == (
        "1 of 3 images is out of the distribution of the model's training. It is kept, "
        "since the model's prediction means little there; look at it"
    )


def test_whether_out_of_distribution_may_not_be_known(format_out_of_distribution):
    image = decide(NAMES[0], make_prediction([0.1, 0.1, 0.8]), None, DECISION)
    results = ScreeningResults(ModelSummary("m", "0"), DECISION, [image])
    assert results.summary()["out_of_distribution"] is None
    assert format_out_of_distribution(results) == ""


def test_json_has_an_image_a_line(results, tmp_path):
    path = tmp_path / "scores.json"
    write_results(path, results)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == content_of(results)
    lines = text.splitlines()
    assert sum('"index"' in line for line in lines) == 3
    assert len([line for line in lines if '"index": 1,' in line]) == 1


def test_what_is_written_is_read(results, tmp_path):
    write_results(tmp_path / "scores.json", results)
    again = read_results(tmp_path / "scores.json")
    assert again.model == results.model
    assert again.decision == results.decision
    assert again.summary() == results.summary()
    for image, before in zip(again.images, results.images, strict=True):
        assert image.name == before.name
        assert image.label == before.label
        assert image.kept_because is before.kept_because
        assert image.error == before.error
        # To the last digit, as a threshold may rest on it.
        np.testing.assert_array_equal(image.p_keep, before.p_keep)
    assert content_of(again) == content_of(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_hit": math.nan}, "not finite"),
        ({"p_hit": 0.9}, "do not add up to 1"),
        ({"p_keep": 1.5}, r"P\(Hit\) \+ P\(Maybe\) of .* is 1.5"),
        ({"p_keep": math.nan}, r"P\(Hit\) \+ P\(Maybe\) of .* is nan"),
        ({"ood_score": math.inf}, "score inf is not finite"),
        ({"kept_because": "mood"}, "mood"),
        ({"class": "Best"}, "BEST"),
    ],
)
def test_entries_that_are_none(results, change, message):
    entry = {**content_of(results)["images"][2], **change}
    with pytest.raises((ValueError, KeyError), match=message):
        image_from_json(entry)


@pytest.mark.parametrize(
    "p", [[0.5, 0.5], [math.nan, 0.5, 0.5], [math.inf, 0, 0], [0.9, 0.9, 0.9]]
)
def test_probabilities_that_cannot_be(p):
    with pytest.raises(ValueError, match=r"are not finite|do not add up to 1"):
        make_prediction(p)


def test_another_decision(results):
    results.images[0] = dataclasses.replace(results.images[0], d_min=2.5)
    strict = [decide_again(image, Decision(0.95)) for image in results.images]
    assert strict[0].d_min == 2.5
    assert [image.kept_because for image in strict] == [
        None,
        KeptBecause.ERROR,
        KeptBecause.OUT_OF_DISTRIBUTION,
    ]
    assert strict[0].prediction is results.images[0].prediction


def test_mean_seconds_is_of_the_classified(results):
    np.testing.assert_allclose(results.mean_seconds(), [2, 3, 4])


def test_mean_seconds_of_nothing(results):
    failed = ScreeningResults(results.model, DECISION, results.images[1:2])
    assert np.isnan(failed.mean_seconds()).all()


def test_names_have_the_folders_that_tell_images_apart():
    prediction = make_prediction([0.1, 0.1, 0.8])
    paths = ["/data/run1/a.h5", "/data/run2/a.h5", "/data/run2/b.h5"]
    images = [decide(ImageName(p, 1), prediction, None, DECISION) for p in paths]
    results = ScreeningResults(ModelSummary("m", "0"), DECISION, images)
    entries = content_of(results)["images"]
    assert [e["file"] for e in entries] == ["run1/a.h5", "run2/a.h5", "b.h5"]
    assert [e["path"] for e in entries] == paths


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"model": {}, "decision": {}, "images": [[]]}', "\0", "{}"]
)
def test_no_results_file(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"scores\.json' is not a scores file of dials"
    ) as refusal:
        read_results(path)
    assert "__init__" not in str(refusal.value)


@pytest.mark.parametrize("decision", [None, 3, []])
def test_a_decision_that_is_none(results, tmp_path, decision):
    content = {**content_of(results), "decision": decision}
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"its decision is (None|3|\[\])"):
        read_results(path)


def test_rings_are_kept(tmp_path):
    rings = [(3.67, 3.44), (3.67,), (), None]
    images = [
        replace(
            decide(
                ImageName("a.h5", i + 1), make_prediction([1, 0, 0]), None, DECISION
            ),
            rings=each,
        )
        for i, each in enumerate(rings)
    ]
    write_results(
        tmp_path / "s.json", ScreeningResults(ModelSummary("m", "0"), DECISION, images)
    )
    read = read_results(tmp_path / "s.json")
    assert [image.rings for image in read.images] == rings
    assert format_rings(read) == (
        "Powder rings are on 2 of 3 images. Spacings, with the number of images in "
        "brackets: 3.67 A (2), 3.44 A (1)."
    )
    assert format_rings(replace(read, images=images[2:])) == ""


def test_common_rings():
    spacings = np.array([3.66, 3.67, 3.68, 3.44, 3.45, 2.25])
    assert [(round(d, 2), n) for d, n in find_common(spacings)] == [
        (3.67, 3),
        (3.44, 2),
        (2.25, 1),
    ]
