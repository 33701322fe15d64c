from __future__ import annotations

import time

import pytest

from dials_cnn_screen.labels.image_name import (
    ImageName,
    NameIndex,
    format_names,
    parse_image_name,
    short_names,
)

TWO_RUNS = [
    ImageName(f"/data/{run}/data.h5", n) for run in ("run1", "run2") for n in (1, 2)
]


def test_text_and_back():
    name = ImageName("run1/my data.h5", 3)
    assert str(name) == "run1/my data.h5 [3]"
    assert parse_image_name(str(name)) == name
    assert name.file == "my data.h5"
    assert ImageName("a.cbf").number == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" a.h5   [12] ", ImageName("a.h5", 12)),
        ("a [1] b [2]", ImageName("a [1] b", 2)),
        ("/é/a.h5\t[007]", ImageName("/é/a.h5", 7)),
    ],
)
def test_odd_names(text, name):
    assert parse_image_name(text) == name


@pytest.mark.parametrize(
    "text", ["", "a.h5", "a.h5[1]", "a.h5 [1", "a.h5 [1] x", "[1]", " [1]", "a [1.5]"]
)
def test_no_name(text):
    with pytest.raises(ValueError, match=r"is not of the form 'file\.h5 \[1\]'"):
        parse_image_name(text)


def test_images_are_counted_from_1():
    with pytest.raises(ValueError, match="counted from 1, not 0"):
        parse_image_name("a.h5 [0]")


@pytest.mark.parametrize("text", [" " * 200_000, f"a{' ' * 200_000}b", "[" * 200_000])
def test_long_text_takes_no_time(text):
    start = time.perf_counter()
    with pytest.raises(ValueError, match="is not of the form"):
        parse_image_name(text)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/d/x.cbf", "/e/y.cbf"], ["x.cbf", "y.cbf"]),
        (["/d/1/a/x.h5", "/d/2/a/x.h5", "/d/2/y.h5"], ["1/a/x.h5", "2/a/x.h5", "y.h5"]),
        (["run1/data.h5", "run2/data.h5"], ["run1/data.h5", "run2/data.h5"]),
        # One path is the end of the other.
        (["a/x.h5", "b/a/x.h5"], ["a/x.h5", "b/a/x.h5"]),
        (["x.h5", "/x.h5"], ["x.h5", "/x.h5"]),
        (["/d/x.h5", "/d/x.h5"], ["x.h5", "x.h5"]),
        ([], []),
    ],
)
def test_as_many_folders_as_tell_files_apart(paths, expected):
    names = [ImageName(path, n) for n, path in enumerate(paths, start=1)]
    short = short_names(names)
    assert [name.path for name in short] == expected
    assert [name.number for name in short] == [name.number for name in names]


def test_short_names_are_found_again():
    index = NameIndex(TWO_RUNS)
    assert [index.find(name) for name in short_names(TWO_RUNS)] == [0, 1, 2, 3]
    assert [index.find(name) for name in TWO_RUNS] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.h5", 0),
        ("run1/data.h5", 0),
        ("/data/run1/data.h5", 0),
        ("/mnt/data/run1/data.h5", None),  # the given name is absolute
        ("un1/data.h5", None),  # folder by folder, not letter by letter
        ("run2/data.h5", None),
        ("/run1/data.h5", None),
        ("data.h", None),
    ],
)
def test_path_is_the_end_of_the_other(path, found):
    assert NameIndex(TWO_RUNS[:1]).find(ImageName(path, 1)) == found
    assert NameIndex([ImageName(path, 1)]).find(TWO_RUNS[0]) == found


def test_number_must_be_equal():
    index = NameIndex(TWO_RUNS[:2])
    assert index.find(ImageName("data.h5", 2)) == 1
    assert index.find(ImageName("data.h5", 3)) is None


def test_given_names_with_fewer_folders():
    index = NameIndex([ImageName("run1/data.h5"), ImageName("run2/data.h5")])
    assert index.find(ImageName("/somewhere/else/run2/data.h5")) == 1


def test_ambiguous_name_is_refused():
    message = (
        r"data\.h5 \[2\] could be an image of 2 files, /data/run1/data\.h5, "
        r"/data/run2/data\.h5; write the folder before the name of the file"
    )
    with pytest.raises(ValueError, match=message):
        NameIndex(TWO_RUNS).find(ImageName("data.h5", 2))
    with pytest.raises(ValueError, match=r"of 4 files, 0/a, 1/a, 2/a, \.\.\.; write"):
        NameIndex([ImageName(f"{n}/a") for n in range(4)]).find(ImageName("a"))


def test_whole_path_means_itself():
    index = NameIndex([ImageName("b/a/x.h5"), ImageName("a/x.h5")])
    assert index.find(ImageName("a/x.h5")) == 1
    assert index.find(ImageName("b/a/x.h5")) == 0
    with pytest.raises(ValueError, match="could be an image of 2 files"):
        index.find(ImageName("x.h5"))


def test_nothing_is_found_in_nothing():
    assert NameIndex([]).find(ImageName("a.h5")) is None


def test_some_names_as_text():
    assert format_names(TWO_RUNS[:1]) == "/data/run1/data.h5 [1]"
    names = [ImageName("a", n) for n in (1, 2, 3, 4)]
    assert format_names(names[:3]) == "a [1], a [2], a [3]"
    assert format_names(names) == "a [1], a [2], a [3], ..."
    assert format_names(names, most=1) == "a [1], ..."
