from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dials_cnn_screen.screening.calibration import ROUNDING, read_labelled_hits
from dials_cnn_screen.screening.decision import Decision, keep, threshold_for_hit_loss

SHA = "ab" * 32


def entry(frame: int, p_hit: float | None, p_maybe: float | None = 0.0) -> dict:
    return {"file": "run1.h5", "frame": frame, "p_hit": p_hit, "p_maybe": p_maybe}


@pytest.fixture
def files(tmp_path):
    """Function write(images, lines): the paths of labels and scores."""

    def write(images: list[dict], lines: list[str]) -> tuple[Path, Path]:
        labels, scores = tmp_path / "labels.txt", tmp_path / "cnn_screen.json"
        labels.write_text("\n".join(lines))
        model = {"name": "old", "sha256": SHA}
        scores.write_text(json.dumps({"model": model, "images": images}))
        return labels, scores

    return write


IMAGES = [entry(1, 0.7, 0.2), entry(2, 0.1, 0.1), entry(3, 0.4, 0.1), entry(4, None)]


def test_hits_and_maybes_have_their_scores(files):
    lines = ["run1.h5 [3] MAYBE", "run1.h5 [1] HIT", "run1.h5 [2] MISS"]
    labels, scores = files(IMAGES, lines)
    hits = read_labelled_hits(labels, scores, "new", SHA)
    np.testing.assert_allclose(hits.scores, [0.5 - ROUNDING, 0.9 - ROUNDING])
    assert hits.source == f"2 Hit or Maybe labelled in {labels}"
    assert hits.left_out == []


def test_what_is_left_out_is_said(files):
    lines = [
        "run1.h5 [1] HIT",
        "run1.h5 [2] None",
        "run1.h5 [3] HIT",
        "run1.h5 [4] HIT",
        "run1.h5 [5] HIT",
        "run2.h5 [1] MISS",
    ]
    images = [*IMAGES[:2], {**IMAGES[2], "unlike_training": True}, IMAGES[3]]
    labels, scores = files(images, lines)
    hits = read_labelled_hits(labels, scores, "new", SHA)
    np.testing.assert_allclose(hits.scores, [0.9 - ROUNDING])
    start = f"of the 6 labels in {labels} are left out:"
    assert hits.left_out == [
        f"1 {start} labelled None (run1.h5 [2])",
        f"2 {start} not judged, or unlike training, in {scores}, and kept for that "
        "(run1.h5 [3] and others)",
        f"2 {start} not among the images of {scores} (run1.h5 [5] and others)",
    ]


@pytest.mark.parametrize(
    ("images", "lines", "message"),
    [
        (IMAGES, ["run1.h5 [1] HIT"] * 2, r"\[1\] is labelled twice; keep one"),
        (IMAGES, ["run1.h5 [2] MISS"], "no image .* has a score; label some of those"),
        (
            IMAGES,
            ["run2.h5 [2] HIT"],
            "has a score; 1 of the 1 .* not among the images",
        ),
        (IMAGES, [], "no image that is labelled Hit or Maybe"),
        ([*IMAGES, IMAGES[0]], ["run1.h5 [1] HIT"], "the same file name; rename"),
        ([{"file": "run1.h5"}], [], "not a scores file of dials.cnn_screen .'frame'"),
        ([entry(1, 3.0)], [], r"not a scores file .*P\(Hit\) \+ P\(Maybe\) is 3"),
        ([entry(1, "high")], [], "not a scores file"),
        ([3], [], "not a scores file"),
    ],
)
def test_what_cannot_be_used(files, images, lines, message):
    labels, scores = files(images, lines)
    with pytest.raises(ValueError, match=message):
        read_labelled_hits(labels, scores, "new", SHA)


@pytest.mark.parametrize("text", ["", "hello", "[]", "3", '{"images": []}', "\xff"])
def test_no_scores_file(files, text):
    labels, scores = files(IMAGES, [])
    scores.write_text(text, encoding="latin-1")
    with pytest.raises(
        ValueError, match=r"is not a scores file of .* give the cnn_scr"
    ):
        read_labelled_hits(labels, scores, "new", SHA)


def test_scores_of_another_model(files):
    labels, scores = files(IMAGES, ["run1.h5 [1] HIT"])
    with pytest.raises(
        ValueError, match=f"old .sha256 {SHA}.* new .* again"
    ) as refusal:
        read_labelled_hits(labels, scores, "new", "cd" * 32)
    assert "cd" * 32 in str(refusal.value)


def test_bound_holds_for_scores_that_are_not_rounded(files):
    # All are rounded to 0.5001; that as the threshold would lose half of them.
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(300):
        old, new = 0.50006 + 8e-5 * rng.random((2, 40))
        images = [entry(i + 1, round(float(p), 4)) for i, p in enumerate(old)]
        paths = files(images, [f"run1.h5 [{i + 1}] HIT" for i in range(40)])
        hits = read_labelled_hits(*paths, "new", SHA).scores
        threshold = threshold_for_hit_loss(hits, 0.1)
        lost.append(~keep(new, Decision(threshold)))
    assert np.mean(lost) <= 0.1


def test_needs_no_dials():
    code = """
import sys
for name in ("dials", "dxtbx", "libtbx", "wx"):
    sys.modules[name] = None
import dials_cnn_screen.screening.calibration
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
