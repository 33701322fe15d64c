from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.labels.agreement import compare_labels, main, tell_agreement


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
    np.testing.assert_array_equal(compare_labels(*files), expected)
    np.testing.assert_array_equal(compare_labels(*files[::-1]), np.transpose(expected))


def test_text(files, capsys):
    main(files)
    said = capsys.readouterr().out
    # By hand: agree 3/4, by chance (2 * 1 + 1 * 2 + 1 * 1) / 16 = 5/16.
    assert "75.0% of 4 images alike, Cohen's kappa 0.64" in said
    assert (
        "Hit or Maybe against Miss: 100.0% of 4 images alike, Cohen's kappa 1.00"
        in (said)
    )
    rows = [
        line.split() for line in tell_agreement(compare_labels(*files)).splitlines()
    ]
    assert rows[1:4] == [
        ["Hit", "1", "1", "0"],
        ["Maybe", "0", "1", "0"],
        ["Miss", "0", "0", "1"],
    ]


def test_nothing_in_common(files, tmp_path):
    (tmp_path / "other.txt").write_text("b.h5 [1] HIT\n")
    with pytest.raises(SystemExit, match="no image is labelled in both"):
        main([files[0], str(tmp_path / "other.txt")])


def test_missing_file(files):
    with pytest.raises(SystemExit, match=r"gone\.txt"):
        main([files[0], "gone.txt"])
