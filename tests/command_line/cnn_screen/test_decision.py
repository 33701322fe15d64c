from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.models.model import Calibration
from dials_cnn_screen.models.model_file import load_model, save_model

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
CLASSES = ["Hit", "Miss", "Maybe", "Miss", "Maybe", "Hit", None]


@pytest.mark.parametrize(("threshold", "kept"), [(0, 7), (0.3, 4), (1, 1)])
def test_threshold(write_levels, model, threshold, kept, results, read):
    # P(Hit) + P(Maybe) is 0.37 at level 94; level 0 can't be classified and is kept.
    images = str(write_levels("run1.h5", [10, 20, 30, 94, 99, 101, 0]))
    run([images, model, ONE, f"decision.threshold={threshold}"])
    assert results()["decision"]["threshold"] == threshold
    assert results()["summary"]["kept"] == kept == len(read("hits.expt"))


def test_class_does_not_depend_on_the_threshold(images, model, column):
    run([images, model, ONE, "threshold=0"])
    assert column("class") == CLASSES


def test_max_hit_loss(images, model, results):
    run([images, model, ONE, "decision.max_hit_loss=0.05"])
    # The 10th of 199 calibration hits at 0.005, 0.010, ...: 10 = 0.05 (199 + 1).
    assert results()["decision"] == {
        "threshold": pytest.approx(0.05),
        "max_hit_loss": 0.05,
        "calibrated_on": "a ramp",
        "calibration_hits": 199,
        "keep_misses": 0.0,
        "seed": 0,
        "loss_of": "hits_and_maybes",
        "eye": None,
    }
    told = (
        "P(Hit) + P(Maybe) is 0.05 or more. At this threshold at most 5% of the Hits "
        "and Maybes are expected to be lost (split conformal prediction), for images "
        "drawn like the 199 calibration hits: a ramp."
    )
    log = Path("dials.cnn_screen.log").read_text()
    assert told in " ".join(log.split())
    assert max(map(len, log.splitlines())) < 140  # a citation is the longest
    assert told in Path("cnn_screen.html").read_text()


def test_max_hit_loss_needs_calibration(images, level_model):
    old = load_model(level_model)
    bare = dataclasses.replace(old, calibration=Calibration())
    save_model("bare.safetensors", bare)
    with pytest.raises(Sorry, match=r"there are 0; .* or set threshold"):
        run([images, ONE, "model=bare.safetensors", "decision.max_hit_loss=0.05"])
    assert not Path("hits.expt").exists()


@pytest.fixture
def labels(images, model, levels) -> list[str]:
    """The seven images screened, and labelled Hit or Maybe from level 99 on."""
    run([images, model, ONE, "html=None", "output.experiments=None"])
    os.rename("cnn_screen.json", "earlier.json")
    lines = [
        f"run1.h5 [{i + 1}] {'HIT' if level >= 99 else 'MISS'}\n"
        for i, level in enumerate(levels)
    ]
    Path("labels.txt").write_text("".join([*lines[:-1], "run1.h5 [7] HIT\n"]))
    return ["calibration.annotation=labels.txt", "calibration.scores=earlier.json"]


def test_max_hit_loss_on_own_labels(images, model, labels, results, column, expected):
    run([images, model, ONE, *labels, "max_hit_loss=0.35"])
    # Five are labelled and classified: k = floor(0.35 x 6) = 2, and that is level 101.
    assert results()["decision"] == {
        "threshold": pytest.approx(1 - expected(101)[2], abs=2e-4),
        "max_hit_loss": 0.35,
        "calibrated_on": "5 images labelled Hit or Maybe in labels.txt",
        "calibration_hits": 5,
        "keep_misses": 0.0,
        "seed": 0,
        "loss_of": "hits_and_maybes",
        "eye": None,
    }
    assert column("kept") == [True, False, True, False, True, True, True]
    log = Path("dials.cnn_screen.log").read_text()
    assert (
        "1 of the 7 labels in labels.txt are left out: could not be classified" in log
    )
    told = "drawn like the 5 calibration hits: 5 images labelled Hit or Maybe in"
    assert told in " ".join(log.split())
    assert told in Path("cnn_screen.html").read_text()


@pytest.mark.parametrize(
    ("leave_out", "options", "message"),
    [
        (0, ["max_hit_loss=0.35"], "go together: give both"),
        (1, ["max_hit_loss=0.35"], "go together: give both"),
        (2, [], "max_hit_loss, which is not set; set it"),
        (2, ["max_hit_loss=0.1"], "needs 9 calibration hits, and there are 5; label"),
        (2, ["max_hit_loss=0.35", "model=default"], "are of model level .* default .*"),
        (2, ["max_hit_loss=0.35", "calibration.scores=run1.h5"], "not a scores file"),
        (2, ["max_hit_loss=0.35", "calibration.annotation=gone"], "gone.*No such file"),
    ],
)
def test_labels_that_cannot_be_used(images, model, labels, leave_out, options, message):
    given = [label for i, label in enumerate(labels) if i != leave_out]
    with pytest.raises(Sorry, match=message) as problem:
        run([images, model, ONE, *given, *options])
    assert "\n" not in str(problem.value)
    assert not Path("hits.expt").exists()


def test_keep_misses_is_reproducible(write_levels, model, column):
    write_levels("run1.h5", [50] * 40)
    kept = []
    for seed in (0, 0, 1):
        run(["run1.h5", model, ONE, "keep_misses=0.5", f"random_seed={seed}"])
        kept.append(column("kept"))
    assert kept[0] == kept[1] != kept[2]
    assert 8 < sum(kept[0]) < 32
    assert set(column("class")) == {"Miss"}
