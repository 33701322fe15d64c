from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

import h5py
from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line import cnn_screen
from dials_cnn_screen.command_line.cnn_train import run
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.models.model_file import load_model

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


def test_from_the_default_model(images, labels, capsys):
    ExperimentListFactory.from_filenames([images]).as_file("imported.expt")
    run(["imported.expt", labels, *QUICK])
    model, default = load_model("model.safetensors"), load_model("default")
    assert (model.name, model.architecture) == ("model", "spots")
    trained_on = "6 labelled images of run1.h5"
    assert model.trained_on == f"{default.trained_on}, then {trained_on}"
    assert model.provenance["start_from"] == {
        "name": "default",
        "sha256": default.sha256,
    }
    assert model.provenance["schedule"]["batches"] == 1
    assert "3 validation images" in model.calibration.source
    # What it looks for, takes for a spot and knows to be out of distribution stays.
    assert model.preparation == default.preparation
    assert model.out_of_distribution.limit == default.out_of_distribution.limit
    for name, weights in default.network.state_dict().items():
        same = weights.equal(model.network.state_dict()[name])
        assert same or name.startswith(("count", "head")), name
    assert capsys.readouterr().err == ""
    cnn_screen.run([images, "model=model.safetensors", "mp.nproc=1", "html=None"])
    scores = json.loads(Path("cnn_screen.json").read_text())
    assert scores["model"]["sha256"] == model.sha256
    assert scores["summary"]["failed"] == 0


def test_what_is_written(images, labels):
    run([images, labels, *QUICK])
    assert set(os.listdir()) == {
        "run1.h5",
        "labels.txt",
        "model.safetensors",
        "cnn_train.json",
        "cnn_train.png",
        "dials.cnn_train.log",
    }
    log = Path("dials.cnn_train.log").read_text()
    for text in (
        "Starting from model default (spots)",
        "| Training   |        6 |     2 |       2 |      2 |",
        "| Test       |        3 |     1 |       1 |      1 |",
        "2 of the 6 training images are Maybe; label more",
        "Preparing 12 images, nproc=1: 2 MB in memory",
        "Training on cpu, 1 thread; epochs x batches x images: 1 x 1 x 3",
        "Epoch   0: training loss",
        "Epoch   1: training loss",
        "| Expert   |   Predicted Hit |   Predicted Maybe |   Predicted Miss |",
        "| New model ",
        "| Starting model ",
        "Preparation took 0 s (0.0",
        "; peak memory ",
        "Saved the model to model.safetensors",
        "Saved the training history to cnn_train.json",
        "Ke, T.-W.",
    ):
        assert text in log
    course = json.loads(Path("cnn_train.json").read_text())
    assert course["splits"]["validation"] == {"hit": 1, "maybe": 1, "miss": 1}
    assert [epoch["epoch"] for epoch in course["epochs"]] == [0, 1]
    assert np.sum(course["test_confusion"]) == 3
    assert np.sum(course["test_confusion_before"]) == 3
    assert course["seconds"]["training"] >= 0
    assert Path("cnn_train.png").read_bytes().startswith(b"\x89PNG")


def test_network_of_the_paper_from_fresh_weights(images, labels):
    files = ["output.history=None", "output.plot=None"]
    run([images, labels, *QUICK, "architecture=ke2018", "contrast=linear", *files])
    model = load_model("model.safetensors")
    assert (model.architecture, model.out_of_distribution) == ("ke2018", None)
    assert model.preparation.contrast == "linear"
    assert model.trained_on == "6 labelled images of run1.h5"
    assert model.provenance["start_from"] is None
    log = Path("dials.cnn_train.log").read_text()
    assert "Training architecture ke2018 from fresh weights" in log
    assert f"22 MB in a temporary file in {Path.cwd()}" in log
    assert "Epoch   0" not in log
    assert "Starting model" not in log
    assert set(os.listdir()) == {
        "run1.h5",
        "labels.txt",
        "model.safetensors",
        "dials.cnn_train.log",
    }


def test_same_seed_same_model(images, labels):
    found = []
    for name in ("a", "b"):
        run([images, labels, *QUICK, f"output.model={name}.safetensors"])
        network = load_model(f"{name}.safetensors").network
        found.append(network.head[0].weight.detach().numpy())
    np.testing.assert_array_equal(*found)
    assert not np.array_equal(found[0], load_model().network.head[0].weight.detach())


def splits_of_run() -> dict:
    return json.loads(Path("cnn_train.json").read_text())["splits"]


def test_split_by_position_in_each_of_several_files(images, labels, write_levels):
    write_levels("run2.h5", range(50, 300, 25))
    lines = [
        f"run2.h5 [{i + 1}] {'MISS' if i in (3, 5, 9) else 'HIT'}" for i in range(10)
    ]
    Path("more.txt").write_text("\n".join(lines) + "\n")
    files = [images, "run2.h5", labels, "annotation=more.txt"]
    run([*files, *QUICK, "split.method=position"])
    assert splits_of_run() == {
        "training": {"hit": 2 + 4, "maybe": 2, "miss": 2 + 1},
        "validation": {"hit": 1 + 1, "maybe": 1, "miss": 0 + 1},
        "test": {"hit": 1 + 2, "maybe": 1, "miss": 2 + 1},
    }


GIVEN = {
    "a.txt": "run1.h5 [1] HIT\nrun1.h5 [3] MISS\nrun1.h5 [2] MAYBE\n",
    "b.txt": "run1.h5 [4] HIT\nrun1.h5 [6] MISS\n",
    "c.txt": "run1.h5 [9] MISS\n",
}


@pytest.fixture
def given() -> list[str]:
    for name, text in GIVEN.items():
        Path(name).write_text(text)
    return ["annotation=a.txt", "split.validation=b.txt", "split.test=c.txt"]


def test_given_splits(images, given):
    run([images, *given, *QUICK, "split.method=given"])
    assert splits_of_run() == {
        "training": {"hit": 1, "maybe": 1, "miss": 1},
        "validation": {"hit": 1, "maybe": 0, "miss": 1},
        "test": {"hit": 0, "maybe": 0, "miss": 1},
    }
    log = Path("dials.cnn_train.log").read_text()
    assert "6 of 12 images have no label and are left out" in log
    assert "| New model      |                none |" in log


def test_given_splits_without_test(images, given):
    run([images, *given[:2], *QUICK, "split.method=given"])
    assert splits_of_run()["test"] == {"hit": 0, "maybe": 0, "miss": 0}
    assert "Test split" not in Path("dials.cnn_train.log").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "are for split.method=given, and it is random; leave b.txt out"),
        (["split.method=given", "split.validation=None"], "give split.validation too"),
        (
            ["split.method=given", "split.test=a.txt"],
            r"a.txt, line 1: run1.h5 \[1\] is labelled twice, also in a.txt, line 1",
        ),
    ],
)
def test_splits_that_contradict(images, given, options, message):
    arguments = given if "split.validation=None" not in options else given[:1]
    with pytest.raises(Sorry, match=message):
        run([images, *arguments, *QUICK, *options])


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
    "images are counted from 1, not 0": "run1.h5 [0] HIT\n",
    "the validation split has no images; label more": (
        "run1.h5 [1] HIT\nrun1.h5 [2] MISS"
    ),
    "all 1 images of the training split are Hit: nothing": "run1.h5 [1] HIT\n",
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
        ("split.fractions=None", "split.fractions"),
        ("split.fractions=1,1", "not enough|Not enough"),
        ("split.fractions=0,0,0", "leave no split any images"),
        ("split.fractions=0,1,1", "training split has no images"),
        ("split.fractions=1,0,1", "validation split has no images"),
        ("training.learning_rate=0", "teaches nothing"),
        ("training.final_learning_rate=0.1", "does not apply to architecture=spots"),
        ("augmentation.shift=121", "maximum"),
        ("start_from=None", "name the network to train from fresh weights"),
        ("start_from=gone", "model 'gone' is not a file"),
        ("contrast=linear", "contrast=linear, but start_from=default has"),
        ("architecture=resnet", "resnet"),
        ("output.model=no/model.safetensors", "there is no folder"),
        ("output.model=/proc/model.safetensors", "can't be written"),
        ("output.model=None", "output.model"),
        ("output.history=model.safetensors", "is the name of two outputs"),
        ("output.plot=no/plot.png", "there is no folder"),
        ("output.plot=plot.txt", "plot.txt' is not the name of a picture"),
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

    monkeypatch.setattr(Source, "read", fail)
    with pytest.raises(Sorry, match=r"run1.h5 \[1\] can't .* no such byte; label it"):
        run([images, labels, *QUICK, "output.model=older"])
    assert Path("older").read_text() == "older"
    assert set(os.listdir()) == {
        "run1.h5",
        "labels.txt",
        "older",
        "dials.cnn_train.log",
    }


KILLED_AFTER = """
import os, signal, sys
import torch
from dials_cnn_screen.command_line import cnn_train
from dials_cnn_screen.training import log
log_epoch = log.log_epoch
def kill(epoch):
    log_epoch(epoch)
    if epoch.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
log.log_epoch = kill
cnn_train.run(sys.argv[1:])
"""


def test_a_killed_run_ends_as_an_unbroken_one(images, labels):
    arguments = [images, labels, "mp.nproc=1", "training.epochs=4"]
    arguments += ["training.batches=2", "training.batch_size=6"]
    run([*arguments, "output.model=unbroken.safetensors"])
    unbroken = json.loads(Path("cnn_train.json").read_text())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER, *arguments], check=False, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL
    assert Path("model.safetensors.checkpoint").is_file()
    assert not Path("model.safetensors").exists()

    with pytest.raises(Sorry, match=r"other training\.epochs \(4, now 5\); give the"):
        run([*arguments, "training.epochs=5"])
    lines = Path("labels.txt").read_text().replace("[1] HIT", "[1] MISS")
    Path("other.txt").write_text(lines)
    with pytest.raises(Sorry, match=r"other labels .*, splits .*; give the same"):
        run([images, "annotation=other.txt", *arguments[2:]])

    run(arguments)
    log = Path("dials.cnn_train.log").read_text()
    assert "Resuming after epoch 2, from model.safetensors.checkpoint" in log
    assert "Epoch   2" not in log
    resumed = json.loads(Path("cnn_train.json").read_text())
    assert resumed["epochs"] == unbroken["epochs"]
    assert resumed["test_confusion_before"] == unbroken["test_confusion_before"]
    assert not list(Path().glob("*checkpoint*"))
    weights = load_model("model.safetensors").network.state_dict()
    for name, expected in (
        load_model("unbroken.safetensors").network.state_dict().items()
    ):
        assert weights[name].equal(expected), name


def test_a_checkpoint_can_be_left_aside(images, labels):
    Path("model.safetensors.checkpoint").write_bytes(b"of another time")
    with pytest.raises(Sorry, match=r"model\.safetensors\.checkpoint' is damaged"):
        run([images, labels, *QUICK])
    run([images, labels, *QUICK, "training.resume=False"])
    assert load_model("model.safetensors").name == "model"


def test_files_of_one_name_in_two_folders(write_levels):
    for folder in ("run1", "run2"):
        os.mkdir(folder)
        write_levels(f"{folder}/data.h5", range(50, 200, 25))
    lines = [f"run1/data.h5 [{i + 1}] {NAMES[i % 3]}" for i in range(6)]
    lines += [f"run2/data.h5 [{i + 1}] {NAMES[(i + 2) % 3]}" for i in range(6)]
    Path("labels.txt").write_text("\n".join(lines) + "\n")
    files = ["run1/data.h5", "run2/data.h5", "annotation=labels.txt"]
    run([*files, *QUICK, "split.method=position"])
    assert splits_of_run()["training"] == {"hit": 2, "maybe": 2, "miss": 2}
    trained_on = load_model("model.safetensors").trained_on
    assert trained_on.endswith("6 labelled images of run1/data.h5, run2/data.h5")
    Path("labels.txt").write_text("data.h5 [1] HIT\n")
    with pytest.raises(Sorry, match="could be an image of 2 files"):
        run([*files, *QUICK])


@pytest.mark.parametrize("options", [["-h"], ["-c", "-e2", "-a2"]], ids=" ".join)
def test_help(capsys, options):
    with pytest.raises(SystemExit) as finished:
        run(options)
    assert finished.value.code == 0
    assert "schedule = *short paper" in capsys.readouterr().out


def test_help_without_arguments(capsys):
    with pytest.raises(SystemExit) as finished:
        run([])
    assert finished.value.code == 0
    assert "Labels are read from annotation files" in capsys.readouterr().out
    assert os.listdir() == []


PROGRAM = [sys.executable, "-m", "dials_cnn_screen.command_line.cnn_train"]


def test_two_threads_beside_dials(images, labels):
    # As a user starts it: torch has to be imported before DIALS.
    subprocess.run([*PROGRAM, images, labels, *QUICK, "mp.nproc=2"], check=True)
    log = Path("dials.cnn_train.log").read_text()
    assert "Training on cpu, 2 threads" in log
