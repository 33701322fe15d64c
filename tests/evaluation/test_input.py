from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.evaluation.input import (
    combine_spots,
    match_screening,
    read_labelled,
    read_spots,
)
from dials_cnn_screen.evaluation.results import Evaluation
from dials_cnn_screen.evaluation.spotfinding import SpotResult
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    read_results,
    write_results,
)

LINES = ["run1.h5 [1] HIT", "run1.h5 [2] None", "run1.h5 [3] MISS", "run1.h5 [4] MAYBE"]


@pytest.fixture
def write(tmp_path):
    """Function write(name, lines) -> path."""

    def write(name: str, lines: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.fixture
def images(write):
    return read_labelled([write("labels.txt", LINES)], [], None)


def result(number: int, p=(0.7, 0.2, 0.1), file="run1.h5", ood_score=0.5):
    prediction = p and make_prediction(p, ood_score=ood_score)
    return decide(ImageName(file, number), prediction, None if p else "no", Decision())


@pytest.fixture
def scores(tmp_path):
    """Function scores(*results): path of a cnn_screen.json with these."""

    def scores(*images) -> Path:
        path = tmp_path / "cnn_screen.json"
        model = ModelSummary("m", "0")
        write_results(path, ScreeningResults(model, Decision(), list(images)))
        return path

    return scores


def test_labels_without_images(images):
    assert images.names == [ImageName("run1.h5", i) for i in (1, 3, 4)]
    assert images.labels.tolist() == [0, 2, 1]
    assert not images.training.any()
    assert images.stills is None


def test_training_split_by_a_file_of_its_own(write):
    labels, others = write("a.txt", LINES), write("b.txt", ["run1.h5 [9] MISS"])
    images = read_labelled([labels], [others], None)
    assert images.names[-1] == ImageName("run1.h5", 9)
    assert images.training.tolist() == [False, False, False, True]


def test_no_image_is_in_both_splits(write):
    labels, others = write("a.txt", LINES), write("b.txt", ["run1.h5 [3] MISS"])
    with pytest.raises(ValueError, match=r"b\.txt, line 1: run1.*twice.*a\.txt"):
        read_labelled([labels], [others], None)


@pytest.mark.parametrize("given", [[], [None]])
@pytest.mark.parametrize("training", [None, "others.txt"])
def test_no_labels(given, training):
    with pytest.raises(ValueError, match=r"give annotation=labels\.txt"):
        read_labelled(given, [training], None)


def test_nothing_is_labelled(write):
    with pytest.raises(ValueError, match=r"no image is labelled in .*a\.txt"):
        read_labelled([write("a.txt", ["run1.h5 [1] None"])], [], None)


def test_random_training_split(write):
    lines = [f"x.h5 [{i + 1}] HIT" for i in range(100)]
    images = read_labelled([write("a.txt", lines)], [], None)
    splits = [images.with_training(0.3, seed).training for seed in (0, 0, 1)]
    assert [split.sum() for split in splits] == [30, 30, 30]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()


def test_scores_of_the_labelled_images(images, scores):
    path = scores(result(4, ood_score=2.0), result(3, None), result(2), result(1))
    screening = match_screening(images, read_results(path), path, Decision(0.95))
    assert [image.name.number for image in screening.images] == [1, 3, 4]
    for i in (0, 2):
        p = screening.images[i].prediction.probabilities
        np.testing.assert_allclose(p, [0.7, 0.2, 0.1])
    assert screening.images[1].prediction is None
    flags = [image.out_of_distribution for image in screening.images]
    assert flags == [False, False, True]
    described = Evaluation(images, screening, None).as_json("")["images"]
    assert [image["kept"] for image in described] == [False, True, True]
    assert [image["expert"] for image in described] == ["Hit", "Miss", "Maybe"]


def test_scores_of_files_of_one_name(write, scores):
    lines = ["run2/data.h5 [1] MISS", "run1/data.h5 [1] HIT"]
    images = read_labelled([write("a.txt", lines)], [], None)
    path = scores(
        result(1, (0.9, 0.1, 0.0), "/raw/run1/data.h5"),
        result(1, (0.0, 0.1, 0.9), "/raw/run2/data.h5"),
    )
    screening = match_screening(images, read_results(path), path, Decision())
    assert [image.label for image in screening.images] == images.labels.tolist()
    described = Evaluation(images, screening, None).as_json("")["images"]
    assert [x["file"] for x in described] == ["run2/data.h5", "run1/data.h5"]


def test_scores_of_which_file_it_is(write, scores):
    images = read_labelled([write("a.txt", ["data.h5 [1] HIT"])], [], None)
    path = scores(result(1, file="run1/data.h5"), result(1, file="run2/data.h5"))
    with pytest.raises(ValueError, match=r"data\.h5 \[1\] could be .*write the folder"):
        match_screening(images, read_results(path), path, Decision())


def test_two_labels_of_one_result(write, scores):
    lines = ["data.h5 [1] HIT", "run1/data.h5 [1] HIT"]
    images = read_labelled([write("a.txt", lines)], [], None)
    path = scores(result(1, file="run1/data.h5"))
    with pytest.raises(ValueError, match=r"\[1\] and run1.* are one image in"):
        match_screening(images, read_results(path), path, Decision())


def test_labels_of_stills_in_two_folders(write):
    stills = [
        Still(None, 0, ImageName(f"/raw/run{run}/data.h5", 1), [0]) for run in (1, 2)
    ]
    lines = ["run2/data.h5 [1] MISS", "run1/data.h5 [1] HIT"]
    images = read_labelled([write("a.txt", lines)], [], stills)
    assert images.stills == stills
    assert images.labels.tolist() == [0, 2]


def test_scores_that_lack_an_image(images, scores):
    path = scores(result(1), result(2), result(4))
    with pytest.raises(ValueError, match=r"lacks 1 labelled image: run1\.h5 \[3\];"):
        match_screening(images, read_results(path), path, Decision())


@pytest.mark.parametrize(
    "bad",
    [
        {"p_hit": 1.7},
        {"p_hit": 0.1},
        {"p_miss": None},
        {"p_miss": "0.1"},
        {"frame": [1]},
    ],
)
def test_scores_that_are_none(images, scores, bad):
    path = scores(result(3), result(4), result(1))
    content = json.loads(path.read_text())
    content["images"][-1] |= bad
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is not a scores file of dials\.cnn_screen"):
        match_screening(images, read_results(path), path, Decision())


def test_two_images_of_one_name(images, scores):
    path = scores(*[result(number) for number in (1, 3, 4, 4)])
    with pytest.raises(ValueError, match=r"run1\.h5 \[4\] is there 2 times"):
        match_screening(images, read_results(path), path, Decision())


def test_counts_of_the_labelled_images(images, write):
    path = write("counts.txt", ["00001 22 Miss", "00004 31 Hit", "00008 1 Miss"])
    spots = read_spots(images, path, 30)
    assert spots.n_spots.tolist() == [22, 0, 31]
    assert spots.min_spots == 30
    others, without = spots.remarks
    assert others.startswith("1 line of")
    assert others.endswith("left out: there is no label for image 8")
    assert without.startswith("1 image without a line in")


def test_cut_that_is_not_that_of_the_classes(images, write):
    path = write("counts.txt", ["1 22 Miss", "3 1 Miss", "4 31 Hit"])
    (remark,) = read_spots(images, path, 40).remarks
    assert "not those of min_spots=40: there a Hit has 31 spots, a Miss 22" in remark


def test_counts_for_images_of_several_files(write):
    labels = write("labels.txt", [*LINES, "run2.h5 [1] HIT"])
    images = read_labelled([labels], [], None)
    with pytest.raises(ValueError, match=r"2 are labelled \(run1\.h5, run2\.h5\)"):
        read_spots(images, write("counts.txt", ["1 22 Miss"]), None)


def test_failed_spot_finding_is_told(images):
    found = [
        SpotResult(7, None, (0.1, 0.3)),
        SpotResult(None, "no file", (0.0, 0.0)),
        SpotResult(None, None, (0.3, 0.5)),
    ]
    spots = combine_spots(images, found, "here", 5)
    assert spots.n_spots.tolist() == [7, 0, 0]
    assert spots.seconds == {"reading": 0.2, "finding": 0.4}
    failed, gave_up = spots.remarks
    assert "failed on 1 image," in failed
    assert "run1.h5 [3]: no file" in failed
    assert "gave up on 1 image with too many strong pixels" in gave_up


def test_spot_finding_that_fails_everywhere(images):
    found = [SpotResult(None, "no such mask", (0.0, 0.0))] * 3
    with pytest.raises(ValueError, match=r"every image .run1.h5 .1.: no such mask"):
        combine_spots(images, found, "here", 5)
