"""dials.cnn_stills_process with files, images and processes that fail."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dials.command_line import stills_process
from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.command_line.cnn_stills_process import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

PROGRAM = "from dials_cnn_screen.command_line.cnn_stills_process import run; run()"
ALL_GOOD = [("a.h5", 1), ("a.h5", 2), ("b.h5", 1), ("b.h5", 2)]


@pytest.mark.parametrize("nproc", [1, 2])
def test_several_files_of_several_images(good, options, nproc, names, run_program):
    # dials.stills_process ends without a word, or with "Abort".
    done = run_program(*good, *options, f"mp.nproc={nproc}")
    assert done.returncode == 0, done.stderr
    assert names() == ALL_GOOD
    assert "failed execution" not in done.stdout


def test_files_by_list_and_pattern(good, options, names):
    Path("list.txt").write_text("a.h5\n\nb.h5\n")
    for given in (["input.file_list=list.txt"], ["input.glob=[ab].h5"], ["[ab].h5"]):
        run([*given, *options])
        assert names() == ALL_GOOD
        Path("cnn_screen.json").unlink()


def test_brackets_in_a_name(write_levels, options, names):
    write_levels("a[1].h5", [250])
    run(["a[1].h5", *options])
    assert names() == [("a[1].h5", 1)]


def test_experiments(good, options, names):
    ExperimentListFactory.from_filenames(good).as_file("imported.expt")
    run(["imported.expt", *options])
    assert names() == ALL_GOOD


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (["input.image_tag=a_00001", "input.image_tag=b_00002"], ALL_GOOD[1:3]),
        (["input.max_images=3"], ALL_GOOD[:3]),
        (["dispatch.process_percent=50"], ALL_GOOD),  # for MPI only
    ],
)
def test_selected_images(good, options, selection, expected, names):
    run([*good, *options, *selection])
    assert names() == expected


def test_tags_are_shown(good, options, capsys):
    run([*good, *options, "input.show_image_tags=True"])
    assert "b_00003" in capsys.readouterr().out
    assert not Path("cnn_screen.json").exists()


def test_tag_of_no_image(good, options):
    with pytest.raises(Sorry, match=r"no image is left by input\.image_tag"):
        run([*good, *options, "input.image_tag=b_00009", "mp.nproc=2"])


def test_tags_of_other_images(good, options):
    Path("aa.h5").touch()
    with pytest.raises(Sorry, match=r"^aa.h5 can't be read: .* those of other images"):
        run([*good, "aa.h5", *options, "input.image_tag=b_00003"])


def write_truncated(path: str) -> None:
    Path(path).write_bytes(Path("a.h5").read_bytes()[:9000])


def write_empty(path: str) -> None:
    Path(path).touch()


def write_text(path: str) -> None:
    Path(path).write_text("not an image")


def write_no_wavelength(path: str) -> None:
    Path(path).write_bytes(Path("a.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["metadata"]


def write_nothing(path: str) -> None:
    pass


BAD = [write_truncated, write_empty, write_text, write_no_wavelength, write_nothing]


@pytest.mark.parametrize("write", BAD)
def test_bad_file_among_good_ones(good, options, write, names):
    write("ab.h5")
    with pytest.raises(Sorry, match=r"^ab\.h5 can't be read: ") as problem:
        run([good[0], "ab.h5", good[1], *options])
    assert "\n" not in str(problem.value)
    assert names() == ALL_GOOD
    assert "ab.h5 can't be read: " in Path("dials.process.log").read_text()


def test_bad_file_on_two_processes(good, options, run_program, names):
    write_truncated("ab.h5")
    done = run_program(good[0], "ab.h5", good[1], *options, "mp.nproc=2")
    assert done.returncode == 1
    assert done.stderr.startswith("Sorry: ab.h5 can't be read: ")
    assert done.stderr.count("\n") == 1
    assert names() == ALL_GOOD


@pytest.mark.parametrize("write", BAD)
def test_bad_file_alone(good, options, write):
    write("ab.h5")
    with pytest.raises(Sorry, match=r"^ab\.h5 can't be read: ") as problem:
        run(["ab.h5", *options])
    assert "\n" not in str(problem.value)
    assert not Path("cnn_screen.json").exists()


@pytest.mark.parametrize("write", BAD)
def test_experiments_of_a_bad_file(good, options, write, write_levels, names, errors):
    write_levels("ab.h5", [250, 250])
    files = [good[0], "ab.h5", good[1]]
    ExperimentListFactory.from_filenames(files).as_file("imported.expt")
    Path("ab.h5").unlink()
    write("ab.h5")
    with pytest.raises(Sorry, match=r"^2 of 6 images could not be processed"):
        run(["imported.expt", *options])
    assert list(errors()) == ["ab.h5 [1]", "ab.h5 [2]"]
    assert set(names()) == {*ALL_GOOD, ("ab.h5", 1), ("ab.h5", 2)}


def test_experiments_that_are_none(good, options):
    for text in ("[]", "{}", "[" * 100_000, '{"__id__": "ExperimentList"}'):
        Path("bad.expt").write_text(text)
        with pytest.raises(Sorry, match=r"^bad\.expt can't be read: ") as problem:
            run(["bad.expt", *options])
        assert len(str(problem.value)) < 500


@pytest.mark.parametrize(
    "error", [KeyError, IndexError, AssertionError, TypeError, OSError, RuntimeError]
)
def test_any_exception_of_dxtbx(good, options, monkeypatch, error, names):
    usual = stills_process.do_import

    def do_import(filename, load_models=True):
        if filename == "a.h5":
            raise error("some\nthing")
        return usual(filename, load_models)

    monkeypatch.setattr(stills_process, "do_import", do_import)
    with pytest.raises(Sorry, match=r"^a.h5 can't be read: .*some.*thing") as problem:
        run(["a.h5", "b.h5", *options])
    assert "\n" not in str(problem.value)
    assert names() == ALL_GOOD[2:]
    assert stills_process.do_import is do_import


@pytest.mark.parametrize("nproc", [1, 2])
def test_an_image_without_models(
    write_levels, options, nproc, names, errors, run_program
):
    write_levels("a.h5", [250] * 4)
    before = """
from dxtbx.imageset import ImageSet
usual = ImageSet.get_beam
def get_beam(self, index=0):
    if self.indices()[0] == 1:
        raise KeyError("no wavelength")
    return usual(self, index)
ImageSet.get_beam = get_beam
"""
    done = run_program("a.h5", *options, f"mp.nproc={nproc}", before=before)
    assert done.returncode == 1
    why = "KeyError: 'no wavelength'"
    assert done.stderr == (
        f"Sorry: 1 of 4 images could not be processed ({Path('a.h5').resolve()} [2]: "
        f"{why})\n"
    )
    assert names() == [("a.h5", i) for i in (1, 2, 3, 4)]
    assert errors() == {"a.h5 [2]": why}


def test_nan_distance_among_good_images(good, write_levels, options, names, errors):
    write_levels("ab.h5", [250] * 4, distance=[100, 100, np.nan, 100])
    message = r"^1 of 8 images could not be processed \(.*ab.h5 \[3\]: .*distance"
    with pytest.raises(Sorry, match=message) as problem:
        run([*good, "ab.h5", *options])
    assert "\n" not in str(problem.value)
    assert set(names()) == {*ALL_GOOD, *(("ab.h5", i) for i in (1, 2, 3, 4))}
    assert list(errors()) == ["ab.h5 [3]"]


@pytest.mark.parametrize("nproc", [1, 2])
def test_mask_that_does_not_fit(good, options, nproc, errors, run_program):
    with open("mask.pickle", "wb") as file:
        pickle.dump((flex.bool(flex.grid(80, 70), True),), file)
    lookup = "spotfinder.lookup.mask=mask.pickle"
    done = run_program(*good, *options, lookup, f"mp.nproc={nproc}")
    assert done.returncode == 1
    assert "Sorry: 4 of 4 images could not be processed" in done.stderr
    assert "it has 1 panels, the first of 80 x 70 pixels" in done.stderr
    assert set(errors().values()) == {errors()["a.h5 [1]"]}
    assert len(errors()) == 4


def test_mask_that_is_none(good, options):
    Path("mask.pickle").write_text("not a mask")
    with pytest.raises(Sorry, match=r"^spotfinder.lookup.mask=mask.pickle can't be r"):
        run([*good, *options, "spotfinder.lookup.mask=mask.pickle"])


def test_gain_that_does_not_fit(good, options, errors, run_program):
    # DIALS's own check before spot finding, of which it tells on the screen alone.
    gain = "spotfinder.threshold.dispersion.gain=7"
    before = """
from dials.command_line.stills_process import Processor
def pre_process(self, experiments):
    raise RuntimeError("gain")
Processor.pre_process = pre_process
"""
    done = run_program(*good, *options, gain, before=before)
    assert done.returncode == 1
    assert "4 of 4 images could not be processed" in done.stderr
    assert set(errors().values()) == {"gain"}


def test_parameters_that_are_not_understood(good, options):
    Path("a.phil").write_text("dispatch { index = ")
    for word in ("a.phil", "gone.phil", "cnn_scren.model=x", "-x"):
        with pytest.raises((Sorry, SystemExit)) as problem:
            run([*good, *options, word])
        assert "\n" not in str(problem.value)
        assert not Path("cnn_screen.json").exists()


@pytest.mark.parametrize("nproc", [1, 2])
def test_a_processor_that_can_not_be_made(good, options, nproc, errors, run_program):
    args = [*good, *options, f"mp.nproc={nproc}", "cnn_screen.device=cuda"]
    done = run_program(*args)
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert done.stderr.startswith("Sorry: 4 of 4 images were not reached (")
    assert "torch finds no GPU" in done.stderr
    assert set(errors().values()) == {"not reached: " + errors()["a.h5 [1]"][13:]}


def test_files_that_can_not_be_written(good, options, errors, run_program):
    # As on a full disk: after the last image.
    before = """
from dials.command_line.stills_process import Processor
def finalize(self):
    raise OSError("no space left")
Processor.finalize = finalize
"""
    done = run_program(*good, *options, before=before)
    assert done.returncode == 1
    assert "2 of 4 images could not be processed" in done.stderr
    assert "its files are lost: no space left" in done.stderr
    assert errors() == {}


def test_folder_that_can_not_be_made(good, options):
    Path("file").touch()
    with pytest.raises(Sorry, match="file"):
        run([*good, *options, "output.output_dir=file/out"])


def test_folder_that_is_missing(good, options):
    run([*good, *options, "output.output_dir=new/out"])
    assert Path("new/out/cnn_screen.json").is_file()


def test_summary_where_dials_logs_nothing(good, options, monkeypatch, run_program):
    # Newer versions of DIALS do so for output.logging_option=disabled.
    before = """
import logging
from dials.command_line.stills_process import Script
usual = Script.load_reference_geometry
def load_reference_geometry(self):
    logging.disable(logging.ERROR)
    usual(self)
Script.load_reference_geometry = load_reference_geometry
"""
    done = run_program(*good, *options, before=before)
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, Path("dials.process.log").read_text()):
        assert "Spot finding ran on 2 of 4 images" in text


@pytest.mark.parametrize("n", [1, 3])
def test_bad_file_under_mpi(good, options, mpirun, n, names):
    write_truncated("ab.h5")
    done = mpirun(n, PROGRAM, *good, "ab.h5", *options, "mp.method=mpi")
    assert done.returncode != 0
    assert "Sorry: ab.h5 can't be read: " in done.stderr
    assert "Traceback" not in done.stderr
    assert names() == ALL_GOOD


def test_share_of_the_images_under_mpi(good, options, mpirun, names):
    percent = "dispatch.process_percent=50"
    done = mpirun(3, PROGRAM, *good, *options, "mp.method=mpi", percent)
    assert done.returncode == 0, done.stderr
    assert names() == [ALL_GOOD[0], ALL_GOOD[2]]


@pytest.mark.parametrize("as_list", [False, True])
def test_scores_do_not_take_the_place_of_images(good, options, as_list):
    ExperimentListFactory.from_filenames(good).as_file("good.expt")
    before = Path(good[1]).read_bytes()
    given = ["good.expt"] if as_list else good
    with pytest.raises(Sorry, match="is both read and written"):
        run([*given, *options, f"cnn_screen.scores={good[1]}"])
    assert Path(good[1]).read_bytes() == before


@pytest.mark.parametrize("nproc", [1, 2])
def test_what_is_too_large_is_not_read(good, write_levels, options, nproc, errors):
    edge = 30_000
    path = write_levels("huge.h5", [0], SIZE1=edge, SIZE2=edge)
    with h5py.File(path, "a") as file:
        chunk = file["data/chunk0"]
        del chunk["images"], file["metadata/ACTIVE_AREAS"]
        chunk.create_dataset("images", (1, edge, edge), "i4", chunks=(1, 64, 64))
    with pytest.raises(Sorry, match="1 of 5 images could not be processed"):
        run([*good, "huge.h5", *options, f"nproc={nproc}"])
    (error,) = errors().values()
    assert "said to have 900000000 pixels (30000 x 30000 on the" in error
