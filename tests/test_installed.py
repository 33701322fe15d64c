"""The installed programs and stock DIALS, one after the other as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("dials")


# Where pip puts programs is not on every PATH.
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
N_SHOTS = 4


def find(program: str) -> str:
    path = shutil.which(program, path=PATH)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def program(name: str, *args: str, cwd: Path) -> str:
    """Run a program of DIALS or of this package to its end; what it printed."""
    done = subprocess.run(
        [find(name), *args],
        cwd=cwd,
        env={**os.environ, "PATH": PATH, "DIALS_NOBANNER": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with simulated shots that were imported and screened."""
    folder = tmp_path_factory.mktemp("user")
    shots = [f"n_images={N_SHOTS}", "fractions=1,0,1", "output.images=shots.h5"]
    program("dials.cnn_simulate", *shots, "mp.nproc=1", cwd=folder)
    program("dials.import", "shots.h5", cwd=folder)
    # The expert of LO19 sees spots over 12 standard deviations.
    eye = "eye.visible_sigma=12"
    program("dials.cnn_screen", "imported.expt", eye, "mp.nproc=1", cwd=folder)
    return folder


@pytest.fixture
def scores(folder) -> dict:
    return json.loads((folder / "cnn_screen.json").read_text())


def test_scores(scores):
    assert scores["summary"]["images"] == N_SHOTS
    assert scores["summary"]["failed"] == 0
    assert [image["file"] for image in scores["images"]] == ["shots.h5"] * N_SHOTS


def test_default_model_tells_hits_from_misses(folder, scores):
    lines = (folder / "labels.txt").read_text().splitlines()
    simulated = [line.split()[-1] != "MISS" for line in lines]
    kept = [image["kept"] for image in scores["images"]]
    assert sum(map(bool.__eq__, simulated, kept)) >= N_SHOTS - 1


def test_find_spots_on_the_hits(folder, scores):
    kept = scores["summary"]["kept"]
    assert kept
    out = program(
        "dials.find_spots", "hits.expt", "nproc=1", "output.shoeboxes=False", cwd=folder
    )
    assert (folder / "strong.refl").is_file()
    assert len(re.findall(r"Finding strong spots in imageset|Extracted \d+", out))
    from dials.array_family import flex

    found = flex.reflection_table.from_file(folder / "strong.refl")
    assert set(found["id"]) <= set(range(kept))


def test_stills_process_with_a_veto(folder, scores):
    options = ["dispatch.index=False", "output.output_dir=processed"]
    options.append("eye.visible_sigma=12")
    out = program("dials.cnn_stills_process", "shots.h5", *options, cwd=folder)
    found = json.loads((folder / "processed" / "cnn_screen.json").read_text())
    assert found["images"] == scores["images"]
    assert out.count("Finding Strong Spots") == scores["summary"]["kept"]


def test_show_the_hits(folder, scores):
    out = program("dials.show", "hits.expt", cwd=folder)
    assert out.count("Experiment identifier") == scores["summary"]["kept"]
    assert "image_size: {1920,1920}" in out


def test_report_is_a_page(folder):
    page = (folder / "cnn_screen.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<img" in page
    assert len(page) < 10_000_000  # a dozen pictures with all their pixels


def test_error_in_one_line(tmp_path):
    done = subprocess.run(
        [find("dials.cnn_train"), "missing.expt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Sorry: there is no file 'missing.expt'")
    assert done.stderr.count("\n") == 1


def test_programs_run_where_dials_does():
    for name in ("dials.cnn_screen", "dials.cnn_train", "dials.cnn_simulate"):
        first = Path(find(name)).read_text(encoding="utf-8").splitlines()[0]
        if not first.startswith("#!/bin/sh"):  # a dispatcher of libtbx
            interpreter = Path(first.removeprefix("#!").split()[0])
            assert interpreter.resolve() == Path(sys.executable).resolve()
