from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_labels

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")


def stills_of(*files: str) -> list[Still]:
    return list_stills(ExperimentListFactory.from_filenames(list(files)))


@pytest.fixture
def two_of_one_name(write_levels) -> list[Still]:
    for folder in ("a", "b"):
        os.mkdir(folder)
        write_levels(f"{folder}/run1.h5", [10, 20])
    return stills_of("a/run1.h5", "b/run1.h5")


def test_labels_of_several_files_in_any_order(write_levels):
    for name in ("run1.h5", "run2.h5"):
        write_levels(name, [10, 20, 30])
    Path("one.txt").write_text("run2.h5 [3] hit\n\nrun1.h5 [2] None\n")
    Path("two.txt").write_text("run1.h5 [1] MAYBE\n")
    found = match_labels(stills_of("run1.h5", "run2.h5"), ["one.txt", None, "two.txt"])
    assert [(s.file, s.frame, label) for s, label in found] == [
        ("run1.h5", 1, Label.MAYBE),
        ("run2.h5", 3, Label.HIT),
    ]


def test_folders_tell_files_of_one_name_apart(two_of_one_name):
    Path("labels.txt").write_text("b/run1.h5 [1] HIT\na/run1.h5 [1] MISS\n")
    found = match_labels(two_of_one_name, ["labels.txt"])
    assert [label for _, label in found] == [Label.MISS, Label.HIT]
    assert [still for still, _ in found] == [two_of_one_name[0], two_of_one_name[2]]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "run1.h5 [2] HIT",
            "",
            r"first, line 1: run1.h5 \[2\] is an image of 2 files, .*a/run1.h5, "
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
