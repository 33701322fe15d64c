from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dials.command_line import stills_process
from dials.util import Sorry
from dxtbx.format.image import ImageBool
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line import cnn_screen
from dials_cnn_screen.command_line.cnn_stills_process import run
from dials_cnn_screen.screening import veto_processor

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# A file of spots for each image on which spot finding ran, and no more than these.
ONE_BY_ONE = [
    "output.composite_output=False",
    "output.strong_filename=%s_strong.refl",
    "dispatch.index=False",
]
PROGRAM = "from dials_cnn_screen.command_line.cnn_stills_process import run; run()"
LEVELS = [250, 50, 150, 99, 101, 300, 0, 20]
KEPT = [0, 2, 4, 5, 6]


@pytest.fixture
def model(level_model) -> str:
    return f"cnn_screen.model={level_model}"


@pytest.fixture
def images(write_levels) -> str:
    """Eight frames; that of level 0 is flat where not masked."""
    return str(write_levels("run1.h5", LEVELS))


def results() -> dict:
    return json.loads(Path("cnn_screen.json").read_text())


def spot_finding_ran() -> list[int]:
    """The images on which spot finding ran."""
    return [int(path.name.split("_")[1]) for path in sorted(Path().glob("*strong*"))]


@pytest.mark.parametrize("nproc", [1, 2])
def test_spot_finding_runs_on_what_is_kept(images, model, level_model, nproc):
    run([images, model, f"mp.nproc={nproc}", *ONE_BY_ONE])
    assert spot_finding_ran() == KEPT
    assert not list(Path().glob(".cnn_screen*"))
    found = results()
    cnn_screen.run([images, f"model={level_model}", "mp.nproc=1"])
    assert found == results()
    assert found["summary"]["failed"] == 1
    log = Path("dials.process.log").read_text()
    assert "run1.h5 [2]: P(Hit) + P(Maybe) = 0.007, spot finding skipped" in log
    if nproc == 1:  # DIALS's log has what is said in the first process
        assert "run1.h5 [7] could not be classified and is kept: every usable" in log
    assert "ran on 5 of 8 images, % with 95% interval 62.5 (30.6-86.3)" in log
    assert not issubclass(stills_process.Processor, veto_processor.Vetoed)


def test_kept_images_are_read_once(images, model, count_reads):
    imagesets = ExperimentListFactory.from_filenames([images]).imagesets()
    reads = count_reads(imagesets[0])
    run([images, model, "mp.nproc=1", *ONE_BY_ONE])
    assert spot_finding_ran() == KEPT
    # That one to see that reading past dxtbx gives the same pixels.
    assert reads == [(0,)]


def test_processes_end_well(images, model):
    # In a process of its own: within pytest DIALS's processes fail without us too.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, images, model, "mp.nproc=2", *ONE_BY_ONE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "failed execution" not in done.stdout
    assert "rror" not in done.stderr
    assert results()["summary"]["kept"] == 5


def test_spots_are_those_of_stills_process(write_cxidb76, spot_model):
    image = np.random.default_rng(0).poisson(20, (1, 80, 80)).astype(np.int32)
    image[0, 20:60:10, 20:60:10] = 900
    image[0, 20:60:10, 21:60:10] = 600
    write_cxidb76("spots.h5", image, kind="Rayonix")
    options = ["spots.h5", *ONE_BY_ONE, "spotfinder.filter.min_spot_size=2"]
    stills_process.Script().run(options)
    (path,) = Path().glob("*strong.refl")
    expected = flex.reflection_table.from_file(path)
    path.unlink()
    run([*options, f"cnn_screen.model={spot_model}"])
    found = flex.reflection_table.from_file(path)
    assert len(found) == len(expected) == 16
    assert list(found["bbox"]) == list(expected["bbox"])


def test_mask_of_spot_finding(images, model):
    with open("mask.pickle", "wb") as file:
        pickle.dump((flex.bool(flex.grid(80, 80), False),), file)
    run([images, model, *ONE_BY_ONE, "spotfinder.lookup.mask=mask.pickle"])
    errors = {image["error"] for image in results()["images"]}
    assert errors == {"every pixel is masked or outside the trusted range"}
    assert spot_finding_ran() == list(range(8))


def test_masks_are_combined_for_a_while(images):
    imageset = ExperimentListFactory.from_filenames([images])[0].imageset
    there, own = (flex.bool(flex.grid(80, 80), True) for _ in range(2))
    there[40, 41], own[42, 43] = False, False
    imageset.external_lookup.mask.data = ImageBool((there,))
    with veto_processor._masked(imageset, (own,)):
        mask = imageset.get_mask(0)[0]
        assert not mask[40, 41]
        assert not mask[42, 43]
        assert mask[44, 45]
    assert imageset.get_mask(0)[0][42, 43]
    assert not imageset.get_mask(0)[0][40, 41]
    assert own[40, 41]


def test_misses_that_are_kept_do_not_depend_on_processes(write_levels, model):
    write_levels("run1.h5", [50] * 30)
    audit = [*ONE_BY_ONE, "cnn_screen.decision.keep_misses=0.5"]
    kept = []
    for options in (["mp.nproc=1"], ["mp.nproc=2"], ["decision.random_seed=5"]):
        run(["run1.h5", model, *audit, *options])
        kept.append([image["kept"] for image in results()["images"]])
    assert kept[0] == kept[1] != kept[2]
    assert 5 < sum(kept[0]) < 25


def test_several_files_and_a_folder(images, write_levels, model):
    write_levels("run0.h5", [300, 20])
    Path("out").mkdir()
    options = ["output.output_dir=out", "cnn_screen.scores=veto.json"]
    run([images, "run0.h5", model, "dispatch.index=False", "pre_import=True", *options])
    found = json.loads(Path("out/veto.json").read_text())["images"]
    names = [("run0.h5", i) for i in (1, 2)] + [("run1.h5", i) for i in range(1, 9)]
    assert [(image["file"], image["frame"]) for image in found] == names
    assert [image["index"] for image in found] == list(range(10))
    assert not list(Path("out").glob(".cnn_screen*"))


def test_files_of_one_name_in_two_folders(write_levels, model):
    for folder, levels in (("run1", [300, 20, 150]), ("run2", [20, 250])):
        Path(folder).mkdir()
        write_levels(f"{folder}/data.h5", levels)
    run(["run1/data.h5", "run2/data.h5", model, *ONE_BY_ONE])
    found = results()["images"]
    assert [(image["file"], image["frame"]) for image in found] == [
        *(("run1/data.h5", i) for i in (1, 2, 3)),
        *(("run2/data.h5", i) for i in (1, 2)),
    ]
    assert [image["kept"] for image in found] == [True, False, True, False, True]
    assert len(spot_finding_ran()) == 3


def test_no_scores(images, model):
    run([images, model, *ONE_BY_ONE, "cnn_screen.scores=None"])
    assert spot_finding_ran() == KEPT
    assert not Path("cnn_screen.json").exists()
    assert not list(Path().glob(".cnn_screen*"))


def test_truncated_file(images, model):
    Path("short.h5").write_bytes(Path(images).read_bytes()[:9000])
    with pytest.raises(Sorry, match=r"^short.h5 can't be read: .*truncated") as problem:
        run(["short.h5", model])
    assert "\n" not in str(problem.value)
    assert not Path("cnn_screen.json").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cnn_screen.model=gone", "'gone' is not a file"),
        ("cnn_screen.model=None", "no cnn_screen.model"),
        ("cnn_screen.decision.max_hit_loss=0.001", "needs 999 calibration hits"),
        ("cnn_screen.calibration.scores=a.json", "go together"),
        ("dispatch.hit_finder.enable=False", "set dispatch.hit_finder.enable=True"),
        ("dispatch.find_spots=False", "no image is classified"),
        ("dispatch.pre_import=False", r"files of one name, .* leave dispatch.pre_impo"),
        ("minimum_number_of_reflections=0", "number_of_reflections=1 or more"),
        ("cnn_screen.decision.threshold=abc", "name 'abc' is not defined"),
        ("cnn_screen.scores=no/scores.json", "there is no folder"),
    ],
)
def test_unusable_parameter(images, model, option, message):
    with pytest.raises(Sorry, match=message) as problem:
        run([images, model, option])
    assert "\n" not in str(problem.value)
    assert not Path("cnn_screen.json").exists()
    assert not Path("dials.process.log").exists()


def test_mpi(images, model, mpirun):
    done = mpirun(3, PROGRAM, images, model, "mp.method=mpi", *ONE_BY_ONE)
    assert done.returncode == 0, done.stderr
    assert spot_finding_ran() == KEPT
    assert [image["frame"] for image in results()["images"]] == list(range(1, 9))
    assert done.stdout.count("Spot finding ran on 5 of 8 images") == 1


def test_mpi_ends_on_an_error(images, mpirun):
    done = mpirun(3, PROGRAM, images, "mp.method=mpi", "cnn_screen.model=gone")
    assert done.returncode != 0
    assert "'gone' is not a file" in done.stderr


def test_help(capsys):
    with pytest.raises(SystemExit) as finished:
        run(["-h"])
    assert finished.value.code == 0
    out = capsys.readouterr().out
    assert "usage: dials.cnn_stills_process" in out
    assert "mpirun -n 64" in out
    assert os.listdir() == []


def test_no_images_is_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dials.cnn_stills_process"])
    run()
    assert "usage: dials.cnn_stills_process" in capsys.readouterr().out
    assert not Path("cnn_screen.json").exists()


def test_rotation_headers(rotation, model):
    run([rotation, model, *ONE_BY_ONE, "mp.nproc=1"])
    images = results()["images"]
    assert [Path(image["path"]).name for image in images] == [
        f"thau_{n}.cbf.bz2" for n in (14, 15, 16)
    ]
    assert all(image["error"] is None for image in images)
