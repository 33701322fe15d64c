from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.evaluation.input import (
    counted_now,
    describe_images,
    judged,
    read_counted,
    read_labelled,
    read_scored,
)
from dials_cnn_screen.evaluation.spotfinding import Found

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


def entry(frame: int, p: tuple | None = (0.7, 0.2, 0.1), **others) -> dict:
    names = ("p_hit", "p_maybe", "p_miss")
    return {
        "file": "run1.h5",
        "frame": frame,
        **dict(zip(names, p or (None,) * 3, strict=True)),
        "class": None if p is None else "Hit",
        "error": "no" if p is None else None,
        **others,
    }


@pytest.fixture
def scores(write):
    """Function scores(entries): path of a cnn_screen.json with these."""

    def scores(*entries: dict) -> Path:
        results = {"model": {"name": "m", "sha256": "0"}, "images": entries}
        return write("cnn_screen.json", [json.dumps(results)])

    return scores


def test_labels_without_images(images):
    assert images.names == [("run1.h5", 1), ("run1.h5", 3), ("run1.h5", 4)]
    assert images.labels.tolist() == [0, 2, 1]
    assert not images.training.any()
    assert images.stills is None


def test_training_part_by_a_file_of_its_own(write):
    labels, others = write("a.txt", LINES), write("b.txt", ["run1.h5 [9] MISS"])
    images = read_labelled([labels], [others], None)
    assert images.names[-1] == ("run1.h5", 9)
    assert images.training.tolist() == [False, False, False, True]


def test_no_image_is_in_both_parts(write):
    labels, others = write("a.txt", LINES), write("b.txt", ["run1.h5 [3] MISS"])
    with pytest.raises(ValueError, match=r"b\.txt, line 1: run1.*twice.*a\.txt"):
        read_labelled([labels], [others], None)


@pytest.mark.parametrize("given", [[], [None]])
def test_no_labels(given):
    with pytest.raises(ValueError, match=r"give annotation=labels\.txt"):
        read_labelled(given, [None], None)


def test_nothing_is_labelled(write):
    with pytest.raises(ValueError, match=r"no image is labelled in .*a\.txt"):
        read_labelled([write("a.txt", ["run1.h5 [1] None"])], [], None)


def test_random_training_part(write):
    lines = [f"x.h5 [{i + 1}] HIT" for i in range(100)]
    images = read_labelled([write("a.txt", lines)], [], None)
    parts = [images.with_training(0.3, seed).training for seed in (0, 0, 1)]
    assert [part.sum() for part in parts] == [30, 30, 30]
    np.testing.assert_array_equal(parts[0], parts[1])
    assert (parts[0] != parts[2]).any()


def test_scores_of_the_labelled_images(images, scores):
    path = scores(entry(4, unlike_training=True), entry(3, None), entry(2), entry(1))
    scored = read_scored(images, path)
    arrays = judged(images, scored, None)
    np.testing.assert_allclose(arrays.p[[0, 2]], [[0.7, 0.2, 0.1]] * 2)
    assert np.isnan(arrays.p[1]).all()
    assert arrays.unlike.tolist() == [False, False, True]
    described = describe_images(images, scored, None, 0.95)
    assert [image["kept"] for image in described] == [False, True, True]
    assert [image["expert"] for image in described] == ["Hit", "Miss", "Maybe"]


def test_scores_that_lack_an_image(images, scores):
    path = scores(entry(1), entry(2), entry(4))
    with pytest.raises(ValueError, match=r"1 labelled images are not.*run1\.h5 \[3\];"):
        read_scored(images, path)


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
    path = scores(entry(3), entry(4), {**entry(1), **bad})
    with pytest.raises(ValueError, match=r"is not a scores file of dials\.cnn_screen"):
        read_scored(images, path)


def test_two_images_of_one_name(images, scores):
    path = scores(*[entry(frame) for frame in (1, 3, 4, 4)])
    with pytest.raises(ValueError, match="have the same file name"):
        read_scored(images, path)


def test_counts_of_the_labelled_images(images, write):
    path = write("counts.txt", ["00001 22 Miss", "00004 31 Hit", "00008 1 Miss"])
    counted = read_counted(images, path, 30)
    assert counted.n_spots.tolist() == [22, 0, 31]
    assert counted.min_spots == 30
    others, without = counted.remarks
    assert others.startswith("1 lines of")
    assert others.endswith("left out (8)")
    assert without.startswith("1 images have no line in")


def test_cut_that_is_not_that_of_the_classes(images, write):
    path = write("counts.txt", ["1 22 Miss", "3 1 Miss", "4 31 Hit"])
    (remark,) = read_counted(images, path, 40).remarks
    assert "not those of min_spots=40: there a Hit has 31 spots, a Miss 22" in remark


def test_counts_for_images_of_several_files(write):
    labels = write("labels.txt", [*LINES, "run2.h5 [1] HIT"])
    images = read_labelled([labels], [], None)
    with pytest.raises(ValueError, match=r"2 are labelled \(run1\.h5, run2\.h5\)"):
        read_counted(images, write("counts.txt", ["1 22 Miss"]), None)


def test_failed_spot_finding_is_told(images):
    found = [
        Found(7, None, (0.1, 0.3)),
        Found(None, "no file", (0.0, 0.0)),
        Found(None, None, (0.3, 0.5)),
    ]
    counted = counted_now(images, found, "here", 5)
    assert counted.n_spots.tolist() == [7, 0, 0]
    assert counted.seconds == {"reading": 0.2, "finding": 0.4}
    failed, gave_up = counted.remarks
    assert "failed on 1 images" in failed
    assert "run1.h5 [3]: no file" in failed
    assert "gave up on 1 images for too many strong pixels" in gave_up


def test_spot_finding_that_fails_everywhere(images):
    found = [Found(None, "no such mask", (0.0, 0.0))] * 3
    with pytest.raises(ValueError, match=r"every image .run1.h5 .1.: no such mask"):
        counted_now(images, found, "here", 5)
