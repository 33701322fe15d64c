from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("sklearn")

from dials_cnn_screen.explain.results import (
    ImageOnMap,
    MapResults,
    Screened,
    collect_results,
)
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult, ModelSummary, decide

MODEL = ModelSummary("m", "0", "spots", "toys", 16)


def result(index, p_hit, p_maybe, features=None) -> ImageResult:
    p = (p_hit, p_maybe, 1 - p_hit - p_maybe)
    prediction = make_prediction(p, features=features)
    return decide(ImageName("run.h5", index + 1), prediction, None, Decision())


def image(index, p_hit, p_maybe, class_, label=None) -> ImageOnMap:
    if p_hit is None:
        found = decide(ImageName("run.h5", index + 1), None, "no", Decision())
    else:
        found = result(index, p_hit, p_maybe)
    assert found.label is class_
    still = Still(None, index, found.name, [index])
    return ImageOnMap(index, still, found.name, found, label, None, None, [])


RESULTS = MapResults(
    MODEL,
    8,
    0,
    "few",
    [
        image(0, 0.9, 0.05, Label.HIT, Label.HIT),
        image(1, 0.1, 0.3, Label.MISS, Label.MAYBE),
        image(2, None, None, None, Label.HIT),
        image(3, 0.0, 0.01, Label.MISS, Label.HIT),
        image(4, 0.2, 0.31, Label.MAYBE, Label.MISS),
        image(5, 0.3, 0.5, Label.MAYBE, Label.HIT),
        image(6, 0.7, 0.2, Label.HIT, None),
    ],
)


def indices(images) -> list[int]:
    return [image.index for image in images]


def test_most_doubtful_first():
    assert indices(RESULTS.by_doubt()) == [4, 1, 5, 6, 0, 3]


def test_misclassified_by_kind_the_worst_first():
    found = {
        title: indices(images) for title, images in RESULTS.misclassified().items()
    }
    assert found == {
        "Lost hits (labelled Hit or Maybe, called Miss)": [3, 1],
        "False alarms (labelled Miss, called Hit or Maybe)": [4],
        "Hit and Maybe confused (labelled one, called the other)": [5],
    }


def test_summary():
    assert RESULTS.summary() == {
        "given": 8,
        "images": 7,
        "hit": 2,
        "maybe": 2,
        "miss": 2,
        "failed": 1,
        "labelled": 6,
    }
    assert indices(RESULTS.failed) == [2]
    assert indices(RESULTS.classified) == [0, 1, 3, 4, 5, 6]


def test_json_of_an_image():
    written = RESULTS.as_json({4: {"deciding": None}})["images"]
    assert written[4] == {
        "index": 4,
        "file": "run.h5",
        "frame": 5,
        "p_hit": 0.2,
        "p_maybe": 0.31,
        "p_miss": 0.49,
        "p_keep": 0.51,
        "class": "Maybe",
        "error": None,
        "out_of_distribution": None,
        "ood_score": None,
        "n_spots": None,
        "spots": None,
        "d_min": None,
        "rings": None,
        "path": "run.h5",
        "label": "Miss",
        "x": None,
        "y": None,
        "nearest": [],
        "reason": {"deciding": None},
    }
    assert written[2]["error"] == "no"
    assert "reason" not in written[2]


@pytest.fixture
def collect():
    """Function collect(indices, features) -> MapResults, of 20 images given.

    Those without features could not be classified.
    """

    def collect(chosen, features) -> MapResults:
        names = [ImageName(f"run{i}/data.h5", 1) for i in range(20)]
        stills = [Still(None, 0, name, [i]) for i, name in enumerate(names)]
        screened = [
            Screened(result(i, 0.5, 0.2, np.array(f, dtype=np.float32)), "jpeg")
            if f is not None
            else Screened(decide(names[i], None, "no", Decision()), None)
            for i, f in zip(chosen, features, strict=True)
        ]
        labels = {3: Label.MISS, 9: Label.HIT}
        return collect_results(chosen, stills, screened, labels, names, MODEL, 1)

    return collect


def test_neighbours_are_counted_among_all_images(collect):
    results = collect([1, 3, 7, 8], [[0, 0], [5, 0], None, [1, 0]])
    assert indices(results.images) == [1, 3, 7, 8]
    nearest = [[(n.index, n.distance) for n in i.nearest] for i in results.images]
    assert nearest == [[(8, 1.0), (3, 5.0)], [(8, 4.0), (1, 5.0)], [], [(1, 1), (3, 4)]]
    assert [image.label for image in results.images] == [None, Label.MISS, None, None]
    assert results.images[1].misclassified
    assert str(results.images[1].name) == "run3/data.h5 [1]"
    assert results.images[1].still.name == results.images[1].name


def test_few_images_have_no_map(collect):
    results = collect([1, 3], [[0, 0], [5, 0]])
    assert [image.position for image in results.images] == [None, None]
    assert results.map_as_json() == {
        "method": "t-SNE",
        "random_seed": 1,
        "perplexity": None,
        "missing": "it takes 10 images that could be classified, and there are 2",
    }


def test_images_on_the_map(collect):
    features = np.random.default_rng(0).normal(size=(12, 5)).tolist()
    results = collect(range(2, 15), [*features[:4], None, *features[4:]])
    assert results.images[4].position is None
    positions = [i.position for i in results.classified]
    assert len(positions) == 12
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in positions)
    assert results.map_as_json()["perplexity"] == round(11 / 3, 2)
    x, y = results.images[0].position
    written = results.as_json({})["images"][0]
    assert (written["x"], written["y"]) == (x, y)
