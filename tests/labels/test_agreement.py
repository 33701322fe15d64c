from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.labels.agreement import (
    compare_files,
    compare_labels,
    format_agreement,
    main,
)
from dials_cnn_screen.labels.label import Label


@pytest.fixture
def files(tmp_path):
    """Two passes: of four images labelled in both, one is a Hit and then a Maybe."""
    passes = {
        "first.txt": ["HIT", "HIT", "MISS", "MAYBE", "None", "HIT"],
        "second.txt": ["HIT", "MAYBE", "MISS", "MAYBE", "MISS", "None"],
    }
    for name, labels in passes.items():
        lines = [f"a.h5 [{i}] {label}\n" for i, label in enumerate(labels, start=1)]
        (tmp_path / name).write_text("".join(lines))
    return [str(tmp_path / name) for name in passes]


def test_counts(files):
    expected = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal(compare_files(*files), expected)
    np.testing.assert_array_equal(compare_files(*files[::-1]), np.transpose(expected))


def test_labels_by_index():
    first = {0: Label.HIT, 3: Label.MISS, 4: Label.MAYBE}
    second = {4: Label.MISS, 0: Label.HIT, 7: Label.HIT}
    counts = compare_labels(first, second)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert compare_labels({}, second).tolist() == [[0] * 3] * 3


def test_one_file_may_have_more_folders(tmp_path):
    (tmp_path / "first.txt").write_text(
        "run1/a.h5 [1] HIT\nrun2/a.h5 [1] MISS\nrun2/b.h5 [1] MAYBE\n"
    )
    (tmp_path / "second.txt").write_text(
        "b.h5 [1] HIT\n/data/run2/a.h5 [1] MISS\nrun3/a.h5 [1] HIT\n"
    )
    counts = compare_files(tmp_path / "first.txt", tmp_path / "second.txt")
    assert counts.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            "c.h5 [1] None\na.h5 [1] HIT",
            r"second, line 2: a\.h5 \[1\] could be an image",
        ),
        (
            "run1/a.h5 [1] HIT\n/run1/a.h5 [1] HIT",
            r"second, line 2: /run1/a\.h5 \[1\] is labelled twice",
        ),
    ],
)
def test_names_that_fit_several_images(in_tmp_path, second, message):
    # An image without a label may be meant too.
    (in_tmp_path / "first").write_text("run1/a.h5 [1] HIT\nrun2/a.h5 [1] None\n")
    (in_tmp_path / "second").write_text(second)
    with pytest.raises(ValueError, match=message):
        compare_files("first", "second")


def test_text(files, capsys):
    main(files)
    said = capsys.readouterr().out
    # By hand: agree 3/4, by chance (2 * 1 + 1 * 2 + 1 * 1) / 16 = 5/16.
    assert "Images labelled in both passes: 4\n" in said
    assert "Hit, Maybe, Miss: 75.0% agreement, Cohen's kappa 0.64" in said
    assert "Hit or Maybe vs. Miss: 100.0% agreement, Cohen's kappa 1.00" in said
    rows = [
        line.split() for line in format_agreement(compare_files(*files)).splitlines()
    ]
    assert rows[1:4] == [
        ["Hit", "1", "1", "0"],
        ["Maybe", "0", "1", "0"],
        ["Miss", "0", "0", "1"],
    ]


def test_kappa_of_one_class_is_undefined():
    text = format_agreement(compare_labels({0: Label.HIT}, {0: Label.HIT}))
    assert "100.0% agreement, Cohen's kappa undefined" in text
    assert "nan" not in text


def test_nothing_in_common(files, tmp_path):
    (tmp_path / "other.txt").write_text("b.h5 [1] HIT\n")
    with pytest.raises(SystemExit, match="no image is labelled in both"):
        main([files[0], str(tmp_path / "other.txt")])


def test_missing_file(files):
    with pytest.raises(SystemExit, match=r"gone\.txt"):
        main([files[0], "gone.txt"])
