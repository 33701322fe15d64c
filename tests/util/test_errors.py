from __future__ import annotations

import pytest

from dials_cnn_screen.util.errors import one_line, shorten


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too\n  much"), "too much"),
        (OSError(2, "No such file", "a.h5"), "No such file: 'a.h5'"),
        (KeyError("data"), "KeyError: 'data'"),
        (IndexError("out of range"), "IndexError: out of range"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_line(error, line):
    assert one_line(error) == line


def test_length_is_bounded():
    line = one_line(ValueError("a file's content " * 10_000))
    assert len(line) == 300
    assert line.endswith(" ...")
    assert shorten("short") == "short"
