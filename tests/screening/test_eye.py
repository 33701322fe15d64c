from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.calibration import read_labelled_hits
from dials_cnn_screen.screening.decision import Decision, KeptBecause, format_decision
from dials_cnn_screen.screening.eye import (
    NO_EYE,
    ChosenEye,
    EyeRule,
    choose_eye,
    fit_to_predictions,
    format_fit,
)
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    decide_again,
    read_results,
    write_results,
)
from dials_cnn_screen.spots.eye import Eye, class_probabilities, pad
from dials_cnn_screen.spots.eye_fit import EyeFit

MODEL = ModelSummary("some", "ab" * 32, "spots", "shots", 192)
BY_MODEL = Decision()
COUNTS = np.tile([0, 2, 5, 8, 12, 30], 5)


def name(i: int) -> ImageName:
    return ImageName("/data/run1.h5", i + 1)


def prediction(n_strong: int, n_weak: int = 0, ood_score: float | None = None):
    """A frame with spots of 25 and 8 sigma; the model counts them all."""
    significance = np.repeat([25.0, 8.0], [n_strong, n_weak])
    scores = CandidateScores(significance, np.ones(n_strong + n_weak))
    p = class_probabilities(pad([scores]), 5.5, 0.05)[0]
    return make_prediction(p, ood_score=ood_score, candidates=scores)


def run_of(decision: Decision = BY_MODEL) -> ScreeningResults:
    """30 images with weak spots too, so that by the model most are Hits."""
    images = [
        decide(name(i), prediction(n, n_weak=20), None, decision)
        for i, n in enumerate(COUNTS)
    ]
    return ScreeningResults(MODEL, decision, images)


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "run1.json"
    write_results(path, run_of())
    return path


@pytest.fixture
def labels(tmp_path):
    """Labels of 24 of the images by an expert who sees the strong spots alone."""
    path = tmp_path / "labels.txt"
    lines = [f"run1.h5 [{i + 1}] {label_from_spots(COUNTS[i]).name}" for i in range(24)]
    path.write_text("\n".join(lines))
    return path


def test_eye_replaces_probabilities_and_class():
    before = prediction(2, n_weak=20)
    assert before.label is Label.HIT
    after = before.seen_by(Eye(16.0))
    assert after.label is Label.MISS
    assert after.p_keep < 0.1
    assert after.probabilities.sum() == pytest.approx(1)
    assert after.candidates is before.candidates


def test_what_is_kept_is_by_the_eye():
    decision = Decision(eye=Eye(12.0))
    strong, weak = prediction(10), prediction(0, n_weak=20)
    assert decide(name(0), strong, None, decision).kept_because is KeptBecause.P_KEEP
    assert decide(name(0), weak, None, decision).kept_because is None
    assert decide(name(0), weak, None, Decision()).kept
    # An eye does not make the model know what it does not know.
    far = decide(name(0), prediction(0, 20, ood_score=1.5), None, decision)
    assert far.kept_because is KeptBecause.OUT_OF_DISTRIBUTION
    assert far.prediction.ood_score == 1.5


def test_no_candidates_no_eye():
    bare = make_prediction([0.1, 0.1, 0.8])
    with pytest.raises(ValueError, match=r"do not have the candidates .* screen"):
        decide(name(0), bare, None, Decision(eye=Eye(12.0)))
    assert decide(name(0), None, "broken", Decision(eye=Eye(12.0))).error == "broken"


def test_scores_file_keeps_candidates_and_eye(tmp_path):
    eye = Eye(12.0, 0.4, "fitted")
    before = run_of(Decision(eye=eye))
    write_results(tmp_path / "run.json", before)
    after = read_results(tmp_path / "run.json")
    assert after.decision == before.decision
    for one, other in zip(after.images, before.images, strict=True):
        scores, expected = one.prediction.candidates, other.prediction.candidates
        np.testing.assert_array_equal(scores.significance, expected.significance)
        np.testing.assert_array_equal(scores.p_spot, expected.p_spot)
        again = decide_again(one, Decision(eye=eye))
        assert again.p_keep == other.p_keep
        assert again.label is other.label


def test_eye_is_fitted_to_labels_of_a_run(scores, labels):
    chosen = choose_eye(EyeRule(None, str(labels), str(scores)), MODEL)
    # Where the file is gone, as the labels call its images.
    assert chosen.fitted_to == [ImageName("run1.h5", i + 1) for i in range(24)]
    assert 8 < chosen.eye.visible_sigma < 25
    assert chosen.eye.source == f"24 images labelled in {labels}"
    found = [
        decide_again(image, Decision(eye=chosen.eye)).label for image in run_of().images
    ]
    assert found == [label_from_spots(n) for n in COUNTS]


def test_labels_that_the_model_explains_change_no_class(scores, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"run1.h5 [{i + 1}] HIT" for i in range(24)))
    chosen = choose_eye(EyeRule(None, str(path), str(scores)), MODEL)
    assert chosen.eye.own_share > 0.5
    assert len(chosen.fitted_to) == 24
    for image in run_of().images:
        assert decide_again(image, Decision(eye=chosen.eye)).label is image.label


def test_what_was_fitted_is_told():
    fitted = EyeFit(Eye(9.04, 0.2, "20 images labelled in l.txt", 0.004), (7.1, 12.0))
    sees = (
        "By 20 images labelled in l.txt the expert sees spots of 9.0 standard "
        "deviations or more (95% interval 7.1 to 12.0)."
    )
    assert format_fit(fitted) == sees
    shared = EyeFit(replace(fitted.eye, own_share=0.25), fitted.interval)
    assert format_fit(shared).startswith(f"{sees} With a probability of 25% the labels")
    erring = EyeFit(replace(fitted.eye, lapse_rate=0.3), fitted.interval)
    assert format_fit(erring).startswith(f"{sees} Some 30% of the labels follow no num")
    assert "Some 30% of the expert's labels follow no number of spots;" in (
        format_decision(Decision(eye=erring.eye))
    )
    assert "Some" not in format_decision(Decision(eye=fitted.eye))


def test_eye_as_given():
    assert choose_eye(EyeRule(12.0, None, None), MODEL) == ChosenEye(Eye(12.0))
    assert choose_eye(EyeRule(None, None, None), MODEL) is NO_EYE
    narrow = EyeRule(12.0, None, None, [0, 90, 10, 100])
    expected = Eye(12.0, region_of_interest=(0, 90, 10, 100))
    assert choose_eye(narrow, MODEL).eye == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((None, "labels.txt", None), "eye.annotation and eye.scores go together"),
        ((None, None, "run.json"), "eye.annotation and eye.scores go together"),
        ((12.0, "labels.txt", "run.json"), "leave one out"),
        ((None, None, None, [0, 9, 0, 9]), "is where an eye looks, and there is none"),
    ],
)
def test_rules_that_cannot_be(rule, message):
    with pytest.raises(ValueError, match=message):
        EyeRule(*rule)


def test_a_model_without_spots_has_no_eye():
    blind = ModelSummary("ke2018", "ab" * 32, "ke2018", "shots", None)
    message = r"model ke2018 does not look for spots, .* leave eye out, or use model="
    with pytest.raises(ValueError, match=message):
        choose_eye(EyeRule(12.0, None, None), blind)


def test_scores_by_an_eye_are_refused(tmp_path, labels):
    path = tmp_path / "by_eye.json"
    write_results(path, run_of(Decision(eye=Eye(12.0))))
    message = re.escape("are by an eye (visible_sigma=12), and those of the model by")
    with pytest.raises(ValueError, match=message):
        choose_eye(EyeRule(None, str(labels), str(path)), MODEL)
    with pytest.raises(ValueError, match=message):
        read_labelled_hits(labels, path, MODEL, ChosenEye(Eye(20.0)))


def test_a_region_needs_the_places_of_candidates(scores, labels):
    region = EyeRule(None, str(labels), str(scores), [0, 9, 0, 9])
    with pytest.raises(ValueError, match="do not say where the candidates are"):
        choose_eye(region, MODEL)


def test_what_the_eye_says_of_its_own_labels(scores, labels):
    chosen = choose_eye(EyeRule(None, str(labels), str(scores)), MODEL)
    expected = [
        (label_from_spots(n), prediction(n, n_weak=20).seen_by(chosen.eye).p_keep)
        for n in COUNTS[:24]
    ]
    assert chosen.labelled == expected


def test_places_of_candidates_are_in_the_scores(tmp_path):
    places = np.array([[3, 70000], [4, 5]], dtype=np.int32)
    found = CandidateScores(np.array([25.0, 8.0]), np.array([0.9, 0.4]), places)
    image = make_prediction([0.1, 0.1, 0.8], candidates=found)
    nothing = make_prediction(
        [0.1, 0.1, 0.8], candidates=CandidateScores(*[np.empty(0)] * 2)
    )
    before = [
        decide(name(0), image, None, BY_MODEL),
        decide(name(1), nothing, None, BY_MODEL),
    ]
    path = tmp_path / "run.json"
    eye = Eye(12.0, region_of_interest=(0, 9, 0, 9))
    write_results(path, ScreeningResults(MODEL, Decision(eye=eye), before))
    assert "[25.0, 0.9, 3, 70000]" in path.read_text()
    results = read_results(path)
    assert results.decision.eye == eye
    read, empty = (image.prediction.candidates for image in results.images)
    np.testing.assert_array_equal(read.places, places)
    assert len(empty.p_spot) == 0
    text = path.read_text()
    for wrong in ("[25.0, 0.9, 3]", "[25.0, 0.9, 3, null]", "[]", "7"):
        path.write_text(text.replace("[25.0, 0.9, 3, 70000]", wrong))
        with pytest.raises(ValueError, match="is not a scores file"):
            read_results(path)


def test_too_few_labels_no_fit():
    message = (
        r"9 of the images .* in l\.txt can be used .* which takes 10, .* label more"
    )
    with pytest.raises(ValueError, match=message):
        fit_to_predictions([prediction(3)] * 9, [Label.MISS] * 9, "l.txt")
    bare = make_prediction([0.1, 0.1, 0.8])
    with pytest.raises(ValueError, match="do not have the candidates"):
        fit_to_predictions([bare] * 10, [Label.MISS] * 10, "l.txt")


def test_calibration_scores_are_by_the_eye(scores, labels):
    eye = Eye(12.0)
    hits = read_labelled_hits(labels, scores, MODEL, ChosenEye(eye))
    expected = [
        prediction(n, n_weak=20).seen_by(eye).p_keep for n in COUNTS[:24] if n >= 4
    ]
    np.testing.assert_allclose(hits.scores, expected)


def test_calibration_leaves_out_what_the_eye_knows(scores, labels):
    known = [name(i) for i in range(18)]
    hits = read_labelled_hits(labels, scores, MODEL, ChosenEye(Eye(12.0), known))
    assert len(hits.scores) == 4
    assert hits.left_out == [
        f"18 of the labels in {labels} are left out: eye.annotation has these images "
        "too; label others for the calibration"
    ]
    everything = ChosenEye(Eye(12.0), [name(i) for i in range(30)])
    with pytest.raises(ValueError, match=r"eye\.annotation has these images too"):
        read_labelled_hits(labels, scores, MODEL, everything)


def test_decision_says_what_the_eye_sees():
    text = format_decision(Decision(eye=Eye(11.95, 0.2, "20 images labelled in l.txt")))
    assert text.startswith(
        "Hit, Maybe and Miss are by the number of spots that stand out by 11.9 standard"
        " deviations or more (20 images labelled in l.txt); the model by itself counts "
        "those over 5.5. Images are kept if"
    )
    shared = format_decision(Decision(eye=Eye(11.95, 0.2, "labels", own_share=0.127)))
    assert "those over 5.5, which has a weight of 13%. Images are" in shared
