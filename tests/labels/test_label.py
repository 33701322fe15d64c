from __future__ import annotations

import pytest

from dials_cnn_screen.labels.label import Label, label_from_spots
from dials_cnn_screen.labels.annotation import (
    Annotation,
    read_annotations,
    write_annotations,
)


def test_values_are_columns_of_the_network():
    assert [(label.value, label.title) for label in Label] == [
        (0, "Hit"),
        (1, "Maybe"),
        (2, "Miss"),
    ]


@pytest.mark.parametrize(
    ("n_spots", "label"),
    [
        (0, Label.MISS),
        (3, Label.MISS),
        (4, Label.MAYBE),
        (9, Label.MAYBE),
        (10, Label.HIT),
        (500, Label.HIT),
    ],
)
def test_label_from_spots(n_spots, label):
    assert label_from_spots(n_spots) is label


def test_read_the_deposited_form(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(
        "r0027_2000.h5 [1] MISS\n\nr0027_2000.h5 [2]  hit \nmy run.h5 [13] Maybe\n"
        "r0027_2000.h5 [3] None"
    )
    assert read_annotations(path) == [
        Annotation("r0027_2000.h5", 1, Label.MISS),
        Annotation("r0027_2000.h5", 2, Label.HIT),
        Annotation("my run.h5", 13, Label.MAYBE),
        Annotation("r0027_2000.h5", 3, None),
    ]


def test_written_as_deposited(tmp_path):
    path = tmp_path / "labels.txt"
    annotations = [Annotation("a.h5", 1, Label.HIT), Annotation("a.h5", 2, None)]
    write_annotations(path, annotations)
    assert path.read_text() == "a.h5 [1] HIT\na.h5 [2] None\n"
    assert read_annotations(path) == annotations


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.h5 1 HIT", r"labels.txt, line 2: 'a.h5 1 HIT' is not of the form"),
        ("a.h5 [x] HIT", "is not of the form"),
        ("a.h5 [2]", "is not of the form"),
        ("a.h5 [2] HITS", "line 2: 'HITS' is not one of HIT, MAYBE, MISS, None"),
        ("a.h5 [0] HIT", "line 2: frames are counted from 1, not 0"),
        ("a.h5 [1] MISS", r"line 2: a.h5 \[1\] is labelled twice"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = tmp_path / "labels.txt"
    path.write_text(f"a.h5 [1] HIT\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"labels.txt, line 1: .* not of the form"):
        read_annotations(path)
