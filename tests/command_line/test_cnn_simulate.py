from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line.cnn_simulate import run
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.label import Label, label_from_spots

pytestmark = pytest.mark.usefixtures("in_tmp_path")

ONE = "mp.nproc=1"


def test_shots_with_labels(installed_formats, capsys):
    run(["n_images=3", "fractions=1,1,1", "experiment=L498", ONE])
    assert set(os.listdir()) == {
        "r0027_3.h5",
        "labels.txt",
        "dials.cnn_simulate.log",
    }
    labels = read_annotations("labels.txt")
    assert [(a.name.path, a.name.number) for a in labels] == [
        ("r0027_3.h5", i) for i in (1, 2, 3)
    ]
    with h5py.File("r0027_3.h5") as file:
        shots = file["simulation/visible_spots"][:, 0]
        counts = np.bincount(shots.astype(int), minlength=3)
    assert [a.label for a in labels] == [label_from_spots(n) for n in counts]
    experiments = ExperimentListFactory.from_filenames(["r0027_3.h5"])
    assert len(experiments) == 3
    assert experiments[0].detector[0].get_pixel_size()[0] == 0.11
    log = Path("dials.cnn_simulate.log").read_text()
    totals = [sum(a.label is label for a in labels) for label in Label]
    told = "Saved 3 shots to r0027_3.h5: {} Hit, {} Maybe, {} Miss"
    assert told.format(*totals) in log
    assert "experiment = *L498 LG36 LN84 LN83 LO19" in log
    assert capsys.readouterr().err == ""


def test_same_seed_same_shots():
    quick = ["n_images=1", "fractions=0,0,1", ONE]
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        images = [f"output.images={name}.h5", "output.annotation=None"]
        run([*quick, *images, f"random_seed={seed}"])
    assert not Path("labels.txt").exists()
    images = []
    for name in "abc":
        with h5py.File(f"{name}.h5") as file:
            images.append(file["data/chunk00/images"][()])
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("n_images=0", "less than the minimum allowed value: 0 < 1"),
        ("n_images=many", "many"),
        ("n_images=None", "n_images cannot be None"),
        ("n_images=Auto", "n_images cannot be Auto; give a value"),
        ("experiment=LX99", "LX99"),
        ("fractions=1,1", "not enough|Not enough"),
        ("fractions=1,1,1,1", "too many|Too many"),
        ("fractions=0,0,0", "not three shares"),
        ("fractions=1,-1,1", "minimum"),
        ("random_seed=-1", "minimum"),
        ("nonsense=1", "Unknown command line parameter"),
        ("LO19", "no file 'LO19', nor a parameter"),
        ("output.images=no/shots.h5", "there is no folder"),
        ("output.annotation=/proc/labels.txt", "can't be written"),
        ("output.log=no/log", "there is no folder"),
    ],
)
def test_unusable_parameter(parameter, message):
    with pytest.raises(Sorry, match=message) as problem:
        run(["n_images=1", ONE, parameter])
    assert "\n" not in str(problem.value)
    assert set(os.listdir()) <= {"dials.cnn_simulate.log"}


def test_older_outputs_survive_an_error(monkeypatch):
    Path("old.h5").write_text("older")
    Path("labels.txt").write_text("older")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dials_cnn_screen.simulation.cxidb76.write_shots", full)
    with pytest.raises(Sorry, match="No space left on device"):
        run(["n_images=1", ONE, "output.images=old.h5"])
    assert Path("old.h5").read_text() == Path("labels.txt").read_text() == "older"
    assert len(os.listdir()) == 3


def test_no_room_for_the_images():
    # In a process of its own: HDF5 would end it with a segmentation fault.
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**7, 10**7))\n"
        "from dials_cnn_screen.command_line.cnn_simulate import run\n"
        "run()"
    )
    Path("labels.txt").write_text("older")
    done = subprocess.run(
        [sys.executable, "-c", code, "n_images=2", ONE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Sorry: there is no room for a file of ")
    assert done.stderr.endswith("File too large\n")
    assert done.stderr.count("\n") == 1
    assert set(os.listdir()) == {"dials.cnn_simulate.log", "labels.txt"}
    assert Path("labels.txt").read_text() == "older"


@pytest.mark.parametrize("options", [["-h"], ["-c", "-e2", "-a2"]], ids=" ".join)
def test_help(capsys, options):
    with pytest.raises(SystemExit) as finished:
        run(options)
    assert finished.value.code == 0
    assert "n_images = 200" in capsys.readouterr().out
    assert os.listdir() == []
