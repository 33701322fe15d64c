from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.evaluation.figures import LabelledResults, evaluate
from dials_cnn_screen.evaluation.metrics import sensitivity_at
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults, decide

DEPOSITED = Path(__file__).resolve().parents[3] / "shared" / "cxidb76" / "annotation"

# Ke et al. (2018): cut in spots, class totals and images on both sides of the cut
# (Fig. 7, with the deposited files), and Table 3, "Automatic spotfinding", rows Hit or
# Maybe and Miss, columns Hit and Miss.
PUBLISHED = {
    "L498": (30, (148, 498, 1354), [[12.8, 87.2], [0.5, 99.5]]),
    "LG36": (20, (235, 57, 1708), [[77.7, 22.3], [2.6, 97.4]]),
    "LN84": (30, (806, 132, 1062), [[69.9, 30.1], [0.4, 99.6]]),
    "LN83": (15, (346, 63, 1591), [[85.8, 14.2], [0.1, 99.9]]),
    "LO19": (50, (730, 151, 1119), [[80.6, 19.4], [0.0, 100.0]]),
}


def deposited(experiment: str) -> LabelledResults:
    folder = DEPOSITED / experiment
    if not folder.is_dir():
        pytest.skip(f"no deposited annotation in {folder}")
    annotations = read_annotations(folder / "expert_annotation.txt")
    counts = read_spot_counts(folder / "dials_annotation.txt").by_number
    return LabelledResults(
        labels=np.array([a.label for a in annotations]),
        screening=None,
        n_spots=np.array([counts.get(a.name.number, 0) for a in annotations]),
    )


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_published_figures_of_spot_finding(experiment):
    min_spots, totals, percent = PUBLISHED[experiment]
    images = deposited(experiment)
    found = evaluate(images, np.zeros(len(images), bool), min_spots)
    assert tuple(found["expert"].values()) == totals
    assert found["spotfinder"]["confusion_percent"] == percent


@pytest.mark.parametrize(("experiment", "auc"), [("L498", 0.758), ("LO19", 0.985)])
def test_area_under_the_curve_of_deposited_counts(experiment, auc):
    """Measured here from the deposited files; not in the paper."""
    images = deposited(experiment)
    found = evaluate(images, np.zeros(len(images), bool), None)["spotfinder"]
    assert found["auc"] == auc
    assert found["auc_interval"][0] < auc < found["auc_interval"][1]
    assert found["confusion_percent"] is None


HIT, MAYBE, MISS = (0.9, 0.08, 0.02), (0.2, 0.4, 0.4), (0.1, 0.1, 0.8)
# Two hits, a maybe and four misses; the network is wrong on the third and the sixth,
# and can't classify the last.
LABELS = np.array([0, 0, 1, 2, 2, 2, 2])
P = [HIT, MAYBE, MISS, MISS, MISS, HIT, None]
SPOTS = np.array([40, 12, 3, 0, 5, 2, 0])
NO_TRAINING = np.zeros(7, bool)


def screened(p, far, threshold) -> ScreeningResults:
    """Results of these probabilities, None where an image could not be classified.

    far: indices of the images that are out of distribution.
    """
    decision = Decision(threshold)
    images = []
    for i, row in enumerate(p):
        prediction = row and make_prediction(row, ood_score=2.0 if i in far else 0.5)
        error = None if row else "no"
        images.append(decide(ImageName("x.h5", i + 1), prediction, error, decision))
    return ScreeningResults(ModelSummary("m", "0"), decision, images)


def results(
    p=P, n_spots=SPOTS, far=(), labels=LABELS, threshold=0.5
) -> LabelledResults:
    screening = None if p is None else screened(p, far, threshold)
    return LabelledResults(np.asarray(labels), screening, n_spots)


def test_network_alone():
    found = evaluate(results(n_spots=None), NO_TRAINING, None)
    assert found["expert"] == {"hit": 2, "maybe": 1, "miss": 4}
    assert found["training"] is found["spotfinder"] is found["matched"] is None
    cnn = found["cnn"]
    # What could not be classified is kept.
    assert cnn["failed"] == 1
    assert cnn["confusion_counts"] == [[2, 1], [2, 2]]
    assert cnn["confusion_percent"] == [[66.7, 33.3], [50.0, 50.0]]
    assert cnn["success_rate"] == round(100 * 4 / 7, 1)
    assert cnn["three_classes"]["confusion_counts"] == [[1, 1, 0], [0, 0, 1], [1, 0, 2]]
    # And not in the right one of three classes.
    assert cnn["three_classes"]["success_rate"] == round(100 * 3 / 7, 1)
    assert cnn["calibration"]["images"] == 6


def test_threshold_of_the_network():
    cnn = evaluate(results(n_spots=None, threshold=0.7), NO_TRAINING, None)["cnn"]
    assert cnn["threshold"] == 0.7
    assert cnn["confusion_counts"] == [[1, 2], [2, 2]]


def test_out_of_distribution_is_kept_and_not_in_the_calibration():
    cnn = evaluate(results(far=[2, 3]), NO_TRAINING, None)["cnn"]
    assert cnn["out_of_distribution"] == 2
    assert cnn["confusion_counts"] == [[3, 0], [3, 1]]
    assert cnn["calibration"]["images"] == 4


def test_roc_goes_through_the_cut_in_use():
    """Images that are kept whatever their score are kept all along the curve."""
    cnn = evaluate(results(far=[2]), NO_TRAINING, None)["cnn"]
    (kept, _), (wrong, _) = cnn["confusion_percent"]
    roc = cnn["roc"]
    at = np.interp(wrong / 100, roc["false_positive_rate"], roc["true_positive_rate"])
    assert at == pytest.approx(kept / 100, abs=1e-3)


def test_spots_at_a_given_cut():
    spots = evaluate(results(p=None), NO_TRAINING, 5)["spotfinder"]
    assert spots["min_spots"] == 5
    assert spots["confusion_counts"] == [[2, 1], [1, 3]]
    low, high = spots["confusion_interval_percent"][0][0]
    assert (low, high) == (20.8, 93.9)  # Wilson, 2 of 3
    assert spots["auc"] == round(11 / 12, 3)
    assert spots["at_best_cut"] is spots["at_cnn_specificity"] is None


def test_cuts_are_chosen_on_other_images_than_those_evaluated():
    labels = np.array([0, 0, 2, 2, 0, 0, 2, 2])
    counts = np.array([20, 30, 4, 9, 8, 40, 2, 50])
    p = [HIT] * 3 + [MISS] + [HIT] * 4
    training = np.arange(8) < 4
    found = evaluate(results(p, counts, labels=labels), training, 30)
    assert found["training"] == {"hit": 2, "maybe": 0, "miss": 2}
    assert found["expert"] == {"hit": 2, "maybe": 0, "miss": 2}
    spots = found["spotfinder"]
    assert spots["confusion_counts"] == [[1, 1], [1, 1]]
    assert spots["at_best_cut"]["min_spots"] == 20
    assert spots["at_best_cut"]["confusion_counts"] == [[1, 1], [1, 1]]
    # In the training split the network rejects one miss of two.
    assert spots["at_cnn_specificity"]["min_spots"] == 5
    assert spots["at_cnn_specificity"]["confusion_counts"] == [[2, 0], [1, 1]]


def test_one_specificity():
    found = evaluate(results(), NO_TRAINING, 5)["matched"]
    # The network rejects two misses of four; so does a cut at 2 or 1 spots.
    assert found["specificity"] == 0.5
    assert found["cnn_sensitivity"] == round(2 / 3, 4)
    assert found["spotfinder_sensitivity"] == 1.0
    assert found["difference"] == round(-1 / 3, 4)
    for name in ("cnn_sensitivity", "spotfinder_sensitivity", "difference"):
        low, high = found[f"{name}_interval"]
        assert low <= found[name] <= high


def test_intervals_are_not_nothing_where_nothing_is_wrong():
    p = [HIT, HIT, HIT, MISS, MISS, MISS, MISS]
    found = evaluate(results(p), NO_TRAINING, 5)
    assert found["cnn"]["auc"] == found["matched"]["cnn_sensitivity"] == 1.0
    assert found["cnn"]["auc_interval"][0] < 0.8
    # Wilson, 3 of 3.
    assert found["matched"]["cnn_sensitivity_interval"] == [0.4385, 1.0]


def test_histogram_as_in_fig_7():
    spots = evaluate(results(p=None), NO_TRAINING, 12)["spotfinder"]
    histogram = spots["histogram"]
    edges = np.array(histogram["spots_from"])
    assert list(edges[:3]) == [0, 1, 2]
    assert histogram["cut"] == 12
    assert 12 in edges
    assert sum(histogram["hit"]) == 2
    assert sum(histogram["miss"]) == 4
    assert histogram["miss"][0] == 2
    above = edges >= 12
    assert sum(np.array(histogram["hit"])[above]) == 2
    assert sum(np.array(histogram["miss"])[above]) == 0


def test_no_spots_anywhere():
    spots = evaluate(results(p=None, n_spots=np.zeros(7, int)), NO_TRAINING, 5)
    assert spots["spotfinder"]["confusion_percent"] == [[0.0, 100.0], [0.0, 100.0]]
    assert spots["spotfinder"]["auc"] == 0.5


def test_only_hits():
    """No misses, no specificity: said to be unknown."""
    found = evaluate(results(labels=np.zeros(7, int)), NO_TRAINING, 5)
    assert found["cnn"]["confusion_percent"][1] == [None, None]
    assert found["cnn"]["auc"] is found["cnn"]["roc"] is None
    assert found["matched"]["specificity"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_nothing_classified():
    found = evaluate(results(p=[None] * 7), NO_TRAINING, 5)
    assert found["cnn"]["confusion_percent"] == [[100.0, 0.0], [100.0, 0.0]]
    assert found["cnn"]["calibration"]["expected_calibration_error"] is None


def test_training_split_without_misses():
    training = np.array([True, True, False, False, False, False, False])
    with pytest.raises(ValueError, match="2 Hit, 0 Maybe, 0 Miss, and a cut in spots"):
        evaluate(results(), training, None)


def test_all_for_training():
    with pytest.raises(ValueError, match=r"lower training\.fraction"):
        evaluate(results(), np.ones(7, bool), None)


@pytest.mark.parametrize(
    ("experiment", "specificity", "sensitivity"),
    [
        ("L498", 93.1, 36.7),
        ("LG36", 98.2, 74.7),
        ("LN84", 89.9, 97.0),
        ("LN83", 96.9, 98.1),
        ("LO19", 96.0, 95.3),
    ],
)
def test_spot_counts_at_the_specificity_of_the_published_network(
    experiment, specificity, sensitivity
):
    """Specificity: Table 3, columns CNN. Sensitivity: found here, not in the paper."""
    images = deposited(experiment)
    found = sensitivity_at(specificity / 100, images.n_spots, images.positive)
    assert round(100 * found, 1) == sensitivity
