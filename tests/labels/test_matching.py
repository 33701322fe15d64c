from __future__ import annotations

import os
from pathlib import Path

import pytest

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_given_splits, match_labels

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def names_of(*paths: str, n: int = 2) -> list[ImageName]:
    """Images 1 to n of each file, with the whole path."""
    return [
        ImageName(str(Path(path).resolve()), number)
        for path in paths
        for number in range(1, n + 1)
    ]


@pytest.fixture
def two_of_one_name(in_tmp_path) -> list[ImageName]:
    return names_of("a/run1.h5", "b/run1.h5")


def test_labels_of_several_files_in_any_order():
    Path("one.txt").write_text("run2.h5 [3] hit\n\nrun1.h5 [2] None\n")
    Path("two.txt").write_text("run1.h5 [1] MAYBE\n")
    names = names_of("run1.h5", "run2.h5", n=3)
    found = match_labels(names, ["one.txt", None, "two.txt"])
    assert [(names[i].file, names[i].number, label) for i, label in found.items()] == [
        ("run1.h5", 1, Label.MAYBE),
        ("run2.h5", 3, Label.HIT),
    ]


def test_folders_tell_files_of_one_name_apart(two_of_one_name):
    Path("labels.txt").write_text("b/run1.h5 [1] HIT\na/run1.h5 [1] MISS\n")
    found = match_labels(two_of_one_name, ["labels.txt"])
    assert list(found.items()) == [(0, Label.MISS), (2, Label.HIT)]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "run1.h5 [2] HIT",
            "",
            r"first, line 1: run1.h5 \[2\] could be an image of 2 files, .*a/run1.h5, "
            ".*b/run1.h5; write the folder before",
        ),
        (
            "a/run1.h5 [2] HIT\n",
            f"\n{os.sep}run1.h5 [2] MISS",
            r"second, line 2: /run1.h5 \[2\] is labelled, but not among the images",
        ),
        (
            "a/run1.h5 [2] HIT\n",
            "{here}/a/run1.h5 [2] None\n",
            r"second, line 1: .*a/run1.h5 \[2\] is labelled twice, also in first, "
            "line 1; keep one",
        ),
        ("a/run1.h5 [3] HIT", "", r"a/run1.h5 \[3\] is labelled, but not among"),
        ("c/run1.h5 [1] HIT", "", r"c/run1.h5 \[1\] is labelled, but not among"),
        ("a/run1.h5 [1] None", "", "no image is labelled in first, second"),
    ],
)
def test_labels_that_fit_no_image_or_several(two_of_one_name, first, second, message):
    Path("first").write_text(first)
    Path("second").write_text(second.format(here=Path.cwd()))
    with pytest.raises(ValueError, match=message):
        match_labels(two_of_one_name, ["first", "second"])


def test_no_annotation_file():
    with pytest.raises(ValueError, match="no labels: give annotation="):
        match_labels([], [None])


def test_given_splits_count_the_labelled_images(two_of_one_name):
    Path("training").write_text("b/run1.h5 [2] HIT\n")
    Path("validation").write_text("a/run1.h5 [2] MISS\na/run1.h5 [1] None\n")
    Path("test").write_text("b/run1.h5 [1] MAYBE\n")
    labelled, splits = match_given_splits(
        two_of_one_name, ["training"], ["validation", None], ["test"]
    )
    assert list(labelled.items()) == [(1, Label.MISS), (2, Label.MAYBE), (3, Label.HIT)]
    assert [split.tolist() for split in splits] == [[2], [0], [1]]
    # There may be no test images.
    labelled, splits = match_given_splits(
        two_of_one_name, ["training"], ["validation"], [None]
    )
    assert list(labelled) == [1, 3]
    assert [split.tolist() for split in splits] == [[1], [0], []]


def test_image_in_two_splits(two_of_one_name):
    Path("training").write_text("b/run1.h5 [2] HIT\n")
    with pytest.raises(ValueError, match="is labelled twice, also in training, line 1"):
        match_given_splits(two_of_one_name, ["training"], ["training"], [])
