from __future__ import annotations

import time

import pytest

from dials_cnn_screen.labels.annotation import (
    Annotation,
    read_annotations,
    write_annotations,
)
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label


def test_read_the_deposited_form(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(
        "r0027_2000.h5 [1] MISS\n\nr0027_2000.h5 [2]  hit \nmy run.h5 [13] Maybe\n"
        "r0027_2000.h5 [3] None"
    )
    annotations = read_annotations(path)
    assert annotations == [
        Annotation(ImageName("r0027_2000.h5", 1), Label.MISS),
        Annotation(ImageName("r0027_2000.h5", 2), Label.HIT),
        Annotation(ImageName("my run.h5", 13), Label.MAYBE),
        Annotation(ImageName("r0027_2000.h5", 3), None),
    ]
    assert [a.where for a in annotations] == [f"{path}, line {n}" for n in (1, 3, 4, 5)]


def test_written_as_deposited(tmp_path):
    path = tmp_path / "labels.txt"
    annotations = [
        Annotation(ImageName("run1/a.h5", 1), Label.HIT),
        Annotation(ImageName("run2/a.h5", 2), None),
    ]
    write_annotations(path, annotations)
    assert path.read_text() == "run1/a.h5 [1] HIT\nrun2/a.h5 [2] None\n"
    assert read_annotations(path) == annotations


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("a.h5 [2] HIT\r", ImageName("a.h5", 2)),
        ("\ta.h5\t[2]\tHIT", ImageName("a.h5", 2)),
        ("a [1].h5 [2] HIT", ImageName("a [1].h5", 2)),
        ("[1] [2] HIT", ImageName("[1]", 2)),
        ("/data/été.h5 [0002] HIT", ImageName("/data/été.h5", 2)),
    ],
)
def test_odd_lines_that_are_understood(tmp_path, line, image):
    path = tmp_path / "labels.txt"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert read_annotations(path) == [Annotation(image, Label.HIT)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.h5 1 HIT", r"labels.txt, line 2: 'a.h5 1 HIT' is not of the form"),
        ("a.h5 [x] HIT", "is not of the form"),
        ("a.h5 [-2] HIT", "is not of the form"),
        ("a.h5 [1234567890] HIT", "is not of the form"),
        ("a.h5 [2]", "is not of the form"),
        ("a.h5 [2]HIT", "is not of the form"),
        ("a.h5[2] HIT", "is not of the form"),
        ("a.h5 [2] HIT MISS", "is not of the form"),
        ("[2] HIT", "is not of the form"),
        ("HIT", "is not of the form"),
        ("a.h5 [2] HITS", "line 2: 'HITS' is not one of HIT, MAYBE, MISS, None"),
        ("a.h5 [0] HIT", "line 2: images are counted from 1, not 0"),
        ("a.h5 [1] MISS", r"line 2: a.h5 \[1\] is labelled twice"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = tmp_path / "labels.txt"
    path.write_text(f"a.h5 [1] HIT\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


@pytest.mark.parametrize("line", ["a {} HIT", "a [1]{} x y", "{}", "[1" * 9 + "{}]"])
def test_long_lines_take_no_time(tmp_path, line):
    path = tmp_path / "labels.txt"
    path.write_text(f"a.h5 [1] HIT\n{line.format(' ' * 200_000)}\n")
    start = time.perf_counter()
    if line == "{}":
        assert len(read_annotations(path)) == 1
    else:
        with pytest.raises(ValueError, match=r"line 2: .* is not of the form") as error:
            read_annotations(path)
        assert len(str(error.value)) < len(str(path)) + 200
    assert time.perf_counter() - start < 1


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"labels.txt, line 1: .* not of the form"):
        read_annotations(path)


@pytest.mark.parametrize("name", ["gone.txt", "."])
def test_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(ValueError, match=r"annotation file '.*' can't be read: "):
        read_annotations(tmp_path / name)
