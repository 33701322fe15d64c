from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    write_results,
)
from dials_cnn_screen.viewer.selection import (
    choose_order,
    image_features,
    read_first_pass,
    read_scores,
)

NAMES = [ImageName("/data/a.h5", n) for n in range(1, 7)]
TWO_RUNS = [
    ImageName(f"/data/{run}/data.h5", n) for run in ("run1", "run2") for n in (1, 2)
]


def result(p_hit, p_maybe=0.0, spots=(), name=NAMES[0]):
    """The result of an image; p_hit=None for one that could not be classified."""
    if p_hit is None:
        return decide(name, None, "broken", Decision())
    pixels = None if spots is None else np.array(spots, np.int64).reshape(-1, 2)
    p = [p_hit, p_maybe, 1 - p_hit - p_maybe]
    return decide(name, make_prediction(p, pixels, 0.5), None, Decision())


def write_scores(path, names, p_hits):
    images = [result(p, name=name) for name, p in zip(names, p_hits, strict=True)]
    results = ScreeningResults(ModelSummary("m", "0"), Decision(), images)
    write_results(path, results)
    return path


def test_nearest_to_the_decision_first():
    results = [result(*p) for p in ([0.9], [None], [0.1, 0.35], [0.0], [0.2, 0.4])]
    order = choose_order("uncertain", 0, NAMES[:5], results, {})
    assert order == [2, 4, 0, 3, 1]


def test_features_of_an_image():
    features = image_features([result(0.5, 0.25, [[1, 8], [3, 2]]), result(None)])
    numbers = [0.5, 0.25, 0.25, np.log(3), np.log(1.5)]
    np.testing.assert_allclose(features[0], [*numbers, 2, 5, 1, 3, 0])
    assert np.isnan(features[1, :-1]).all()
    assert image_features([]).shape == (0, 10)


def test_features_without_spots():
    none, not_looked_for = image_features([result(0.5), result(0.5, spots=None)])
    np.testing.assert_allclose(none, [0.5, 0, 0.5, 0, np.log(1.5), 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(not_looked_for[:-1], none[:-1])


def test_diverse_order_takes_one_of_each_kind_first():
    hit = result(0.98, 0.01, [[100, 100], [900, 800], [200, 700]] * 20)
    miss = result(0.01, 0.02)
    unusual = result(0.5, 0.2, [[5, 5]] * 190)
    results = [miss, miss, miss, hit, unusual, miss]
    order = choose_order("diverse", 0, NAMES, results, {})
    assert sorted(order) == list(range(6))
    assert {3, 4} <= set(order[:3])


def test_diverse_order_of_equal_images_is_still_an_order():
    results = [*[result(0.5)] * 5, result(None)]
    order = choose_order("diverse", 0, NAMES, results, {})
    assert sorted(order) == list(range(6))
    assert order[-1] == 5
    assert choose_order("diverse", 0, NAMES[5:], results[5:], {}) == [0]


def test_model_that_looks_for_no_spots():
    results = [result(p, spots=None) for p in (0.1, 1)]
    assert sorted(choose_order("diverse", 0, NAMES[:2], results, {})) == [0, 1]


@pytest.mark.parametrize("order", ["uncertain", "diverse"])
def test_image_without_scores(order):
    results = [result(0.5), None, result(0.5), None, None, None]
    with pytest.raises(ValueError, match=r"a\.h5 \[2\] has no scores"):
        choose_order(order, 0, NAMES, results, {})


def test_orders_without_scores():
    assert choose_order("sequence", 0, NAMES, [], {}) is None
    order = choose_order("random", 1, NAMES, [], {})
    assert sorted(order) == list(range(6))
    assert choose_order("random", 1, NAMES, [], {}) == order


def test_images_of_the_first_pass_in_random_order():
    first_pass = {5: Label.HIT, 0: Label.MISS, 2: Label.HIT}
    shuffled = choose_order("random", 1, NAMES, [], {})
    expected = [i for i in shuffled if i in first_pass]
    assert choose_order("sequence", 1, NAMES, [], first_pass) == expected


def test_scores_of_two_files_of_one_name(tmp_path):
    path = write_scores(tmp_path / "scores.json", TWO_RUNS, [0.9, 0.4, 0.0, 0.7])
    assert [r.p_keep for r in read_scores(path, TWO_RUNS[::-1])] == [0.7, 0, 0.4, 0.9]
    # A run of which one file was screened.
    path = write_scores(tmp_path / "scores.json", TWO_RUNS[2:], [0.2, 0.7])
    results = read_scores(path, TWO_RUNS)
    assert results[:2] == [None, None]
    assert [r.p_keep for r in results[2:]] == [0.2, 0.7]


def test_scores_of_a_name_that_could_be_of_two_files(tmp_path):
    path = write_scores(tmp_path / "scores.json", TWO_RUNS, [0.9, 0.4, 0.0, 0.7])
    with pytest.raises(ValueError, match="could be an image of 2 files"):
        read_scores(path, [ImageName("data.h5", 1)])


def test_first_pass_over_some_of_the_images(tmp_path):
    path = tmp_path / "first.txt"
    path.write_text("run2/data.h5 [1] HIT\nrun1/data.h5 [2] None\nold.h5 [1] MISS\n")
    assert read_first_pass(path, "labels.txt", TWO_RUNS) == {2: Label.HIT}
    assert read_first_pass(None, "labels.txt", TWO_RUNS) == {}
    with pytest.raises(ValueError, match="none of these images is labelled in"):
        read_first_pass(path, "labels.txt", TWO_RUNS[:2])
    with pytest.raises(ValueError, match="is the file that the labels are saved to"):
        read_first_pass(path, tmp_path / "." / "first.txt", TWO_RUNS)
