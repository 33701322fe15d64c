from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.util.input_words import parse_ranges, read_words


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5", "x_0001.cbf", "x_0002.cbf", "x_0010.cbf", "x_12.cbf"):
        Path(name).touch()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("7", [7]), ("1-3,9", [1, 2, 3, 9]), ("5, 4-6", [4, 5, 6])],
)
def test_ranges(text, numbers):
    assert parse_ranges(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "3-1", "1-", "a", "1,,2", "1-99999999999"])
def test_no_ranges(text):
    with pytest.raises(ValueError, match=r"not of the form|no range of images"):
        parse_ranges(text)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("a.h5", ["a.h5"]),
        ("*.h5", ["a.h5", "b.h5"]),
        ("[ab].h5", ["a.h5", "b.h5"]),
        ("x_####.cbf", ["x_0001.cbf", "x_0002.cbf", "x_0010.cbf"]),
        ("y_##.cbf", ["y_##.cbf"]),
        ("missing.h5:3", ["missing.h5:3"]),
        ("mp.nproc=3", ["mp.nproc=3"]),
        ("output.html=a.*", ["output.html=a.*"]),
        ("-v", ["-v"]),
    ],
)
def test_files_of_a_word(word, found):
    words = read_words([word])
    assert (words.args, words.numbers, words.notes) == (found, {}, [])


def test_some_images_of_a_file():
    words = read_words(["a.h5:17", "b.h5:1-3,5", "a.h5:2"])
    assert words.args == ["a.h5", "b.h5", "a.h5"]
    assert words.numbers == {
        os.path.abspath("a.h5"): {2, 17},
        os.path.abspath("b.h5"): {1, 2, 3, 5},
    }


def test_a_name_that_ends_like_a_range():
    Path("a.h5:17").touch()
    assert read_words(["a.h5:17"]).numbers == {}


def test_list():
    os.mkdir("lists")
    Path("lists/c.h5").touch()
    Path("lists/files.lst").write_text("a.h5 //0\na.h5 //16\n\nb.h5\nc.h5\n")
    words = read_words(["lists/files.lst"])
    assert words.args == ["a.h5", "b.h5", "lists/c.h5"]
    # CrystFEL counts from 0.
    assert words.numbers == {os.path.abspath("a.h5"): {1, 17}}


def test_list_with_a_file_that_is_missing():
    Path("files.lst").write_text("a.h5\ngone.h5\n")
    with pytest.raises(ValueError, match=r"files.lst, line 2: there is no file 'gone"):
        read_words(["files.lst"])


@pytest.mark.parametrize("content", [b"hello\n", b"", b"\xff\xfe"])
def test_text_that_is_no_list(content):
    Path("note.txt").write_bytes(content)
    assert read_words(["note.txt"]).args == ["note.txt"]


def test_masters():
    given = ["r_master.h5", "r_data_000001.h5", "r_meta.h5", "s_data_000001.h5"]
    for name in given:
        Path(name).touch()
    words = read_words(["[rs]_*.h5"])
    assert words.args == ["r_master.h5", "s_data_000001.h5"]
    assert words.notes == ["2 files are read through their master: left out"]


def test_folder_without_images():
    os.mkdir("empty")
    with pytest.raises(ValueError, match="there are no images in the folder 'empty'"):
        read_words(["empty"])
