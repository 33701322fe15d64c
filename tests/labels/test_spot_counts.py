from __future__ import annotations

import pytest

from dials_cnn_screen.labels.spot_counts import read_spot_counts


@pytest.fixture
def read(tmp_path):
    """Function read(text): the counts of a file with that text."""

    def read(text: str):
        path = tmp_path / "counts.txt"
        path.write_text(text)
        return read_spot_counts(path)

    return read


def test_the_deposited_form(read):
    counts = read("00001    22 Miss\n\n00003   102 Hit\n00004    30 hit\n00007 0 MISS")
    assert counts.by_number == {1: 22, 3: 102, 4: 30, 7: 0}
    assert counts.most_of_miss == 22
    assert counts.fewest_of_hit == 30


def test_without_classes(read):
    counts = read("1 5\n2 6\n")
    assert counts.by_number == {1: 5, 2: 6}
    assert counts.most_of_miss is counts.fewest_of_hit is None
    assert counts.agrees_with(1)
    assert counts.agrees_with(100)


@pytest.mark.parametrize(
    ("cut", "agrees"), [(22, False), (23, True), (30, True), (31, False)]
)
def test_classes_and_cut(read, cut, agrees):
    assert read("1 22 Miss\n2 30 Hit\n").agrees_with(cut) is agrees


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 22 Miss\n2 many Hit", r"line 2: '2 many Hit' is not of the form"),
        ("r0027.h5 [1] MISS", "line 1: .* is not of the form"),
        ("1 -3 Miss", "line 1: .* is not of the form"),
        ("1 2 Maybe", "line 1: 'Maybe' is not one of Hit, Miss"),
        ("0 2 Miss", "counted from 1, not 0"),
        ("00001 2 Miss\n3 4 Miss\n1 2 Miss", "line 3: image 1 has two lines"),
        ("\n \n", "has no line such as"),
    ],
)
def test_bad_lines(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)
