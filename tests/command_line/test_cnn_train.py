from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

import h5py
from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line import cnn_screen, cnn_train
from dials_cnn_screen.command_line.cnn_train import run
from dials_cnn_screen.model_file import load_model

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

QUICK = [
    "mp.nproc=1",
    "training.epochs=1",
    "training.batches=1",
    "training.batch_size=3",
]
NAMES = ("HIT", "MAYBE", "MISS")


@pytest.fixture
def images(write_levels) -> str:
    return str(write_levels("run1.h5", range(50, 350, 25)))


@pytest.fixture
def labels(images) -> str:
    """Labels of the twelve images of run1.h5: Hit, Maybe, Miss and so on."""
    lines = [f"run1.h5 [{i + 1}] {NAMES[i % 3]}" for i in range(12)]
    Path("labels.txt").write_text("\n".join(lines) + "\n")
    return "annotation=labels.txt"


def test_model_that_dials_cnn_screen_reads(images, labels, capsys):
    ExperimentListFactory.from_filenames([images]).as_file("imported.expt")
    run(["imported.expt", labels, *QUICK])
    model = load_model("model.safetensors")
    assert model.name == "model"
    assert model.architecture == "ke2018"
    assert model.trained_on == "6 labelled images of run1.h5"
    assert model.provenance["schedule"]["epochs"] == 1
    assert "2 validation images" in model.calibration.source
    log = Path("dials.cnn_train.log").read_text()
    for text in (
        "Training: 6 images",
        "Validation: 2 images",
        "Test: 4 images",
        "Epoch   1: loss",
        "Test part: ",
        "| Expert       |   Hit or Maybe, % |   Miss, % |",
        "Saved the model to model.safetensors",
        "Ke, T.-W.",
    ):
        assert text in log
    assert capsys.readouterr().err == ""
    cnn_screen.run([images, "model=model.safetensors", "mp.nproc=1", "html=None"])
    scores = json.loads(Path("cnn_screen.json").read_text())
    assert scores["model"]["sha256"] == model.sha256
    assert scores["summary"]["failed"] == 0


def test_same_seed_same_model(images, labels):
    found = []
    for name in ("a", "b"):
        run([images, labels, *QUICK, f"output.model={name}.safetensors"])
        network = load_model(f"{name}.safetensors").network
        found.append(network.classifier.weight.detach().numpy())
    np.testing.assert_array_equal(*found)


LABELS = {
    "labels.txt, line 2: run1.h5 \\[1\\] is labelled twice": (
        "run1.h5 [1] HIT\nrun1.h5 [1] MISS\n"
    ),
    "labels.txt, line 1: run9.h5 \\[1\\] is labelled, but not among the images": (
        "run9.h5 [1] HIT\n"
    ),
    "run1.h5 \\[13\\] is labelled, but not among the images": "run1.h5 [13] HIT\n",
    "labels.txt, line 1: .* is not of the form": "\x00\xff?\n",
    "'GOOD' is not one of HIT, MAYBE, MISS, None": "run1.h5 [1] GOOD\n",
    "no image is labelled in labels.txt": "\n",
    "no image is labelled in labels.txt ": "run1.h5 [1] None\n",
    "frames are counted from 1, not 0": "run1.h5 [0] HIT\n",
    "the training part has no images; label more": "run1.h5 [1] HIT\n",
}


@pytest.mark.parametrize(("message", "content"), LABELS.items())
def test_unusable_labels(images, message, content):
    Path("labels.txt").write_text(content)
    with pytest.raises(Sorry, match=message.strip()) as problem:
        run([images, "annotation=labels.txt", *QUICK])
    assert "\n" not in str(problem.value)
    assert set(os.listdir()) == {"run1.h5", "labels.txt", "dials.cnn_train.log"}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("annotation=gone.txt", "'gone.txt' can't be read: No such file"),
        ("annotation=.", "'.' can't be read: Is a directory"),
        ("training.epochs=0", "minimum"),
        ("training.epochs=None", "training.epochs cannot be None"),
        ("training.fractions=None", "training.fractions"),
        ("training.fractions=1,1", "not enough|Not enough"),
        ("training.fractions=0,0,0", "leave no part any images"),
        ("training.fractions=0,1,1", "training part has no images"),
        ("training.fractions=1,0,1", "validation part has no images"),
        ("training.learning_rate=0", "teaches nothing"),
        ("architecture=resnet", "resnet"),
        ("output.model=no/model.safetensors", "there is no folder"),
        ("output.model=/proc/model.safetensors", "can't be written"),
        ("output.model=None", "output.model"),
        ("nonsense=1", "Unknown command line parameter"),
    ],
)
def test_unusable_parameter(images, labels, parameter, message):
    with pytest.raises(Sorry, match=message) as problem:
        run([images, labels, *QUICK, parameter])
    assert "\n" not in str(problem.value)
    assert set(os.listdir()) <= {"run1.h5", "labels.txt", "dials.cnn_train.log"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no images: give an .expt file"),
        (["annotation=labels.txt"], "no images: give an .expt file"),
        (["run1.h5"], "no labels: give annotation=labels.txt"),
    ],
)
def test_not_enough_arguments(images, labels, args, message):
    with pytest.raises(Sorry, match=message):
        run([*args, *QUICK])


def test_image_that_cannot_be_used(images, labels, monkeypatch):
    Path("older").write_text("older")
    with h5py.File(images, "a") as file:
        file["data/chunk0/images"][3] = 0
    with pytest.raises(Sorry, match=r"run1.h5 \[4\] can't be used: every pixel"):
        run([images, labels, *QUICK, "output.model=older"])

    def fail(*_):
        raise RuntimeError("no such byte")

    monkeypatch.setattr(cnn_train, "read_frame", fail)
    with pytest.raises(Sorry, match=r"run1.h5 \[1\] can't .* no such byte; label it"):
        run([images, labels, *QUICK, "output.model=older"])
    assert Path("older").read_text() == "older"
    assert set(os.listdir()) == {
        "run1.h5",
        "labels.txt",
        "older",
        "dials.cnn_train.log",
    }


@pytest.mark.parametrize("options", [["-h"], ["-c", "-e2", "-a2"]], ids=" ".join)
def test_help(capsys, options):
    with pytest.raises(SystemExit) as finished:
        run(options)
    assert finished.value.code == 0
    assert "batch_size = 64" in capsys.readouterr().out
