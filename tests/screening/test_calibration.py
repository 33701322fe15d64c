from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening.calibration import (
    DecisionRule,
    OwnLabels,
    choose_decision,
    hits_of_eye,
    hits_of_model,
    read_labelled_hits,
)
from dials_cnn_screen.screening.decision import LossOf, threshold_for_hit_loss
from dials_cnn_screen.screening.eye import ChosenEye, EyeRule
from dials_cnn_screen.spots.eye import Eye

SHA = "ab" * 32
MODEL = SimpleNamespace(name="new", sha256=SHA)


def entry(number: int, p_hit: float | None, p_maybe: float = 0.0, **others) -> dict:
    p_miss = p_keep = None
    if p_hit is not None:
        p_keep = p_hit + p_maybe
        p_miss = 1 - p_keep
    return {
        "path": "/data/run1.h5",
        "frame": number,
        "p_hit": p_hit,
        "p_maybe": None if p_hit is None else p_maybe,
        "p_miss": p_miss,
        "p_keep": p_keep,
        "class": None if p_hit is None else "Hit" if p_keep >= 0.5 else "Miss",
        "kept_because": None,
        "error": None if p_hit is not None else "no picture",
        "ood_score": None,
        "spots": None,
        **others,
    }


@pytest.fixture
def files(tmp_path):
    """Function write(images, lines): the paths of labels and scores."""

    def write(images: list[dict], lines: list[str]) -> tuple[Path, Path]:
        labels, scores = tmp_path / "labels.txt", tmp_path / "cnn_screen.json"
        labels.write_text("\n".join(lines))
        model = {"name": "old", "sha256": SHA}
        content = {"model": model, "decision": {}, "images": images}
        scores.write_text(json.dumps(content))
        return labels, scores

    return write


IMAGES = [entry(1, 0.7, 0.2), entry(2, 0.1, 0.1), entry(3, 0.4, 0.11), entry(4, None)]


def test_hits_and_maybes_have_their_scores(files):
    lines = ["run1.h5 [3] MAYBE", "run1.h5 [1] HIT", "run1.h5 [2] MISS"]
    labels, scores = files(IMAGES, lines)
    hits = read_labelled_hits(labels, scores, MODEL)
    np.testing.assert_allclose(hits.scores, [0.51, 0.9])
    assert hits.source == f"2 images labelled Hit or Maybe in {labels}"
    assert hits.left_out == []


def test_what_is_left_out_is_said(files):
    lines = [
        "run1.h5 [1] HIT",
        "run1.h5 [2] None",
        "run1.h5 [3] HIT",
        "run1.h5 [4] HIT",
        "run1.h5 [5] HIT",
        "run2.h5 [1] MISS",
    ]
    images = [*IMAGES[:2], {**IMAGES[2], "ood_score": 1.5}, IMAGES[3]]
    labels, scores = files(images, lines)
    hits = read_labelled_hits(labels, scores, MODEL)
    np.testing.assert_allclose(hits.scores, [0.9])
    start = f"of the 6 labels in {labels} are left out:"
    assert hits.left_out == [
        f"1 {start} labelled None (run1.h5 [2])",
        f"2 {start} could not be classified, or out of distribution, in {scores}, and "
        "kept for that (run1.h5 [3] and others)",
        f"2 {start} not among the images of {scores} (run1.h5 [5] and others)",
    ]


@pytest.mark.parametrize(
    ("images", "lines", "message"),
    [
        (IMAGES, ["run1.h5 [1] HIT"] * 2, r"\[1\] is labelled twice; keep one"),
        (IMAGES, ["run1.h5 [2] MISS"], "no image .* has a score; label some of those"),
        (
            IMAGES,
            ["run2.h5 [2] HIT"],
            "has a score; 1 of the 1 .* not among the images",
        ),
        (IMAGES, [], "no image that is labelled Hit or Maybe"),
        (
            [*IMAGES, {**IMAGES[0], "path": "/old/run1.h5"}],
            ["run1.h5 [1] HIT"],
            "write the folder",
        ),
        ([{"path": "run1.h5"}], [], "not a scores file of dials.cnn_screen .'frame'"),
        (
            [entry(1, 0.5, p_keep=3.0)],
            [],
            r"not a scores .*P\(Hit\) \+ P\(Maybe\) .* 3",
        ),
        ([entry(1, 0.5, p_keep="high")], [], "not a scores file"),
        ([3], [], "not a scores file"),
    ],
)
def test_what_cannot_be_used(files, images, lines, message):
    labels, scores = files(images, lines)
    with pytest.raises(ValueError, match=message):
        read_labelled_hits(labels, scores, MODEL)


@pytest.mark.parametrize("text", ["", "hello", "[]", "3", '{"images": []}', "\xff"])
def test_no_scores_file(files, text):
    labels, scores = files(IMAGES, [])
    scores.write_text(text, encoding="latin-1")
    with pytest.raises(
        ValueError, match=r"is not a scores file of .* give the cnn_scr"
    ):
        read_labelled_hits(labels, scores, MODEL)


def test_scores_of_another_model(files):
    labels, scores = files(IMAGES, ["run1.h5 [1] HIT"])
    with pytest.raises(
        ValueError, match=f"old .sha256 {SHA}.* new .* again"
    ) as refusal:
        read_labelled_hits(
            labels, scores, SimpleNamespace(name="new", sha256="cd" * 32)
        )
    assert "cd" * 32 in str(refusal.value)


def test_bound_holds_for_scores_that_are_alike(files):
    # All are 0.5001 to four digits; that as the threshold would lose half of them.
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(300):
        old, new = 0.50006 + 8e-5 * rng.random((2, 40))
        images = [
            entry(i + 1, round(float(p), 4), p_keep=float(p)) for i, p in enumerate(old)
        ]
        paths = files(images, [f"run1.h5 [{i + 1}] HIT" for i in range(40)])
        hits = read_labelled_hits(*paths, MODEL).scores
        threshold = threshold_for_hit_loss(hits, 0.1)
        lost.append(new < threshold)
    assert np.mean(lost) <= 0.1


def test_folders_tell_images_apart(files):
    images = [
        entry(1, 0.7, path="/data/run1/shots.h5"),
        entry(1, 0.6, path="/data/run2/shots.h5"),
    ]
    lines = ["run2/shots.h5 [1] HIT", "run1/shots.h5 [1] MAYBE"]
    labels, scores = files(images, lines)
    hits = read_labelled_hits(labels, scores, MODEL)
    assert hits.scores.tolist() == [0.6, 0.7]
    assert hits.left_out == []


def test_needs_no_dials():
    code = """
import sys
for name in ("dials", "dxtbx", "libtbx", "wx"):
    sys.modules[name] = None
import dials_cnn_screen.screening.calibration
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["threshold", "max_hit_loss", "keep_misses"])
@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
def test_rules_that_cannot_be(name, value):
    rule = {"threshold": 0.5, "max_hit_loss": None, "keep_misses": 0, "random_seed": 0}
    with pytest.raises(ValueError, match=rf"decision\.{name}=.* is not from 0 to 1"):
        DecisionRule(**{**rule, name: value})


def test_labelled_hits_alone(files):
    lines = ["run1.h5 [3] MAYBE", "run1.h5 [1] HIT", "run1.h5 [2] MISS"]
    labels, scores = files(IMAGES, lines)
    hits = read_labelled_hits(labels, scores, MODEL, loss_of=LossOf.HITS)
    np.testing.assert_allclose(hits.scores, [0.9])
    assert hits.source == f"1 image labelled Hit in {labels}"
    labels, scores = files(IMAGES, lines[:1])
    with pytest.raises(ValueError, match="no image that is labelled Hit in"):
        read_labelled_hits(labels, scores, MODEL, loss_of=LossOf.HITS)


def rule(**values) -> DecisionRule:
    return DecisionRule(
        **{"threshold": 0.5, "max_hit_loss": 0.01, "keep_misses": 0.0, **values},
        random_seed=0,
    )


NO_LABELS, NO_RULE = OwnLabels(None, None), EyeRule(None, None, None)


def test_the_loss_of_hits_alone_allows_a_higher_threshold():
    model = load_model("default")
    both = choose_decision(rule(), NO_LABELS, NO_RULE, model)
    sure = choose_decision(rule(loss_of="hits"), NO_LABELS, NO_RULE, model)
    assert both.threshold < 0.1 < 0.3 < sure.threshold
    assert both.calibration_hits == len(model.calibration.hit_scores)
    assert sure.calibration_hits == len(model.calibration.sure_scores)
    lost = np.mean(model.calibration.sure_scores < sure.threshold)
    assert 0.008 < lost <= 0.01
    with pytest.raises(ValueError, match=r"loss_of=hits is for decision\.max_hit"):
        rule(loss_of="hits", max_hit_loss=None)


def test_a_model_that_does_not_know_hits_from_maybes():
    old = Calibration(hit_scores=np.ones(200))
    with pytest.raises(ValueError, match="does not say which of its calibration hits"):
        hits_of_model(old, LossOf.HITS)
    assert hits_of_model(old, LossOf.HITS_AND_MAYBES).number == 200


def test_an_eye_has_its_own_calibration_hits():
    model = load_model("default")
    looks = EyeRule(12.0, None, None)
    decision = choose_decision(rule(), NO_LABELS, looks, model)
    simulated = model.calibration.simulated
    is_hit = simulated.best[:, 0] >= 12
    assert decision.calibration_hits == pytest.approx(is_hit.sum(), rel=0.05)
    assert decision.calibrated_on.startswith("hits to this eye among 2231 simulated")
    scores = simulated.scores(decision.eye)
    # To this eye far more is a Miss, and its hits are easier to tell.
    assert np.mean(scores[is_hit] < decision.threshold) <= 0.01
    assert np.mean(scores[simulated.best[:, 0] < 8] < decision.threshold) > 0.3
    sure = choose_decision(rule(loss_of="hits"), NO_LABELS, looks, model)
    assert sure.threshold > decision.threshold
    bare = replace(model, calibration=replace(model.calibration, simulated=None))
    with pytest.raises(ValueError, match="with an eye needs labels of your own"):
        choose_decision(rule(), NO_LABELS, looks, bare)


def test_labels_that_no_eye_explains_lower_the_threshold():
    calibration = load_model("default").calibration
    labelled = [(Label.HIT, 0.9)] * 8 + [(Label.MAYBE, 0.001), (Label.MISS, 0.0)]
    chosen = ChosenEye(Eye(12.0), labelled=labelled)
    assert hits_of_eye(chosen, calibration, LossOf.HITS_AND_MAYBES).highest == 0.001
    assert hits_of_eye(chosen, calibration, LossOf.HITS).highest == 0.9
