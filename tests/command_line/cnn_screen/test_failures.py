from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
CLASSES = ["Hit", "Miss", "Maybe", "Miss", "Maybe", "Hit", None]
OUTPUTS = {"hits.expt", "cnn_screen.json", "cnn_screen.html", "dials.cnn_screen.log"}


def corrupt(path: str, index: int) -> None:
    """Store the images of a file compressed, and spoil the bytes of one."""
    with h5py.File(path, "a") as file:
        chunk = file["data/chunk0"]
        images = chunk["images"][()]
        del chunk["images"]
        stored = chunk.create_dataset(
            "images", data=images, chunks=(1, *images.shape[1:]), compression="gzip"
        )
        place = stored.id.get_chunk_info(index)
    with open(path, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)


@pytest.mark.parametrize("nproc", [1, 2])
def test_one_unreadable_image_among_a_hundred(
    write_levels, model, nproc, results, column, read, places
):
    write_levels("run1.h5", [50] * 100)
    corrupt("run1.h5", 41)
    # The report is of the pictures that can be read.
    run(["run1.h5", model, f"mp.nproc={nproc}"])
    assert results()["summary"] == {
        "images": 100,
        "hit": 0,
        "maybe": 0,
        "miss": 99,
        "failed": 1,
        "kept": 1,
        "out_of_distribution": None,
        "not_reached": 0,
    }
    error = column("error").pop(41)
    assert "cannot read image 41" in error
    assert "\n" not in error
    assert places(read("hits.expt")) == [("run1.h5", 41)]
    assert "cannot read image 41" in Path("cnn_screen.html").read_text()
    log = Path("dials.cnn_screen.log").read_text()
    assert "run1.h5 [42] could not be classified and is kept" in log


@pytest.mark.usefixtures("grid_scan")
def test_one_file_missing_among_some(model, column):
    os.unlink("thau_15.cbf.bz2")
    run(["imported.expt", model, ONE, "html=None"])
    assert [error is None for error in column("error")] == [True, False, True]
    assert column("kept") == [False, True, False]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((80, 80)), "every pixel is masked"),
        (np.full((80, 80), 65535), "every pixel is masked or outside the trusted"),
        (np.full((80, 80), 70000), "every pixel is masked or outside the trusted"),
        (np.full((80, 80), 17), "every usable pixel has the same value, 17"),
    ],
    ids=["zero", "saturated", "overloaded", "constant"],
)
def test_frame_without_content(write_levels, model, image, error, column):
    write_levels("run1.h5", [50, 50, 50])
    with h5py.File("run1.h5", "a") as file:
        file["data/chunk0/images"][1] = image
    run(["run1.h5", model, ONE])
    assert column("class") == ["Miss", None, "Miss"]
    assert column("kept") == [False, True, False]
    assert error in column("error")[1]


def nothing(_path: str, _imported) -> None:
    pass


def text(path: str, _imported) -> None:
    Path(path).write_text("hello\n")


def images_gone(path: str, imported) -> None:
    shutil.copy("run1.h5", "gone.h5")
    imported("gone.h5", name=path)
    os.unlink("gone.h5")


def truncated(path: str, _imported) -> None:
    Path(path).write_bytes(Path("run1.h5").read_bytes()[:9000])


def other_layout(path: str, _imported) -> None:
    with h5py.File(path, "w") as file:
        file["something"] = [1, 2]


def without_images(path: str, imported) -> None:
    experiments = imported("run1.h5")[:1]
    experiments[0].imageset = None
    experiments.as_file(path)


UNUSABLE = [
    (nothing, "missing.h5", "no file 'missing.h5'"),
    (nothing, "missing.expt", "no file 'missing.expt'"),
    (nothing, "*.none", r"no file '\*.none'"),
    (nothing, "--nproc", "no file '--nproc', nor a parameter or option"),
    (without_images, "bare.expt", "experiment 7 has no images"),
]


def no_wavelength(path: str, _imported) -> None:
    shutil.copy("run1.h5", path)
    with h5py.File(path, "a") as file:
        del file["data/chunk0/wavelength"]


UNREADABLE = [
    (text, "text.expt", "it is no experiment list"),
    (text, "note.txt", "neither an image .* nor an experiment list"),
    (other_layout, "other.h5", "neither an image"),
    (truncated, "short.h5", "truncated"),
    (no_wavelength, "dark.h5", "wavelength"),
]


@pytest.mark.parametrize(
    ("make", "name", "reason"), UNREADABLE, ids=[case[1] for case in UNREADABLE]
)
def test_one_unreadable_file_among_others(
    images, model, imported, make, name, reason, results, column
):
    make(name, imported)
    with pytest.raises(Sorry, match=f"not screened, .* be read: {name}$") as problem:
        run([images, name, model, ONE])
    assert "\n" not in str(problem.value)
    # The others are screened, and the file is named and kept.
    assert results()["summary"]["images"] == 8
    assert column("class")[:7] == CLASSES
    last = results()["images"][7]
    assert (last["file"], last["class"], last["kept"]) == (name, None, True)
    assert re.search(reason, last["error"])
    assert Path("hits.expt").exists()
    assert f"{name} can't be read: " in Path("dials.cnn_screen.log").read_text()
    assert name in Path("cnn_screen.html").read_text()


@pytest.mark.parametrize(
    ("make", "name", "reason"), UNREADABLE, ids=[case[1] for case in UNREADABLE]
)
def test_unreadable_files_alone(images, model, imported, make, name, reason):
    make(name, imported)
    with pytest.raises(Sorry, match=name) as problem:
        run([name, model, ONE])
    assert "\n" not in str(problem.value)
    assert not Path("hits.expt").exists()


def test_experiments_of_which_a_file_is_gone(images, model, imported, results):
    images_gone("gone.expt", imported)
    run([images, "gone.expt", model, ONE])
    of_file = {"run1.h5": [], "gone.h5": []}
    for image in results()["images"]:
        of_file[image["file"]].append(image)
    assert [image["class"] for image in of_file["run1.h5"]] == CLASSES
    assert len(of_file["gone.h5"]) == 7
    assert all("gone.h5" in image["error"] for image in of_file["gone.h5"])
    assert all(image["kept"] for image in of_file["gone.h5"])


@pytest.mark.parametrize("output", ["log", "scores", "html", "experiments"])
def test_inputs_are_not_overwritten(images, model, output):
    before = Path(images).read_bytes()
    with pytest.raises(Sorry, match="is both read and written"):
        run([images, model, ONE, f"output.{output}={images}"])
    assert Path(images).read_bytes() == before


@pytest.mark.parametrize(
    ("make", "name", "message"), UNUSABLE, ids=[case[1] for case in UNUSABLE]
)
def test_unusable_input(images, model, imported, make, name, message):
    make(name, imported)
    with pytest.raises(Sorry, match=message) as problem:
        run([images, name, model, ONE])
    assert "\n" not in str(problem.value)
    assert not Path("hits.expt").exists()
    assert not Path("cnn_screen.json").exists()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("nonsense=3", "Unknown command line parameter definition: nonsense = 3"),
        ("output=3", "Ambiguous parameter definition|Unknown"),
        ("decision.threshold=high", "decision.threshold="),
        ("decision.threshold=1.5", "greater than the maximum allowed value: 1.5 > 1"),
        ("decision.threshold=-1", "less than the minimum allowed value: -1 < 0"),
        ("mp.nproc=0", "less than the minimum allowed value: 0 < 1"),
        ("mp.method=threads", r"choices are: \*multiprocessing mpi"),
        ("device=tpu", r"choices are: \*auto cpu cuda"),
        ("device=None", r"choices are: \*auto cpu cuda"),
        ("decision.threshold=None", "decision.threshold cannot be None"),
        ("model=missing.safetensors", "'missing.safetensors' is not a file"),
        ("model=.", "is not a file"),
        ("model=None", "no model: give model=default or a file"),
        ("model=run1.h5", "not a model file"),
        ("output.experiments=no/hits.expt", "there is no folder"),
        ("output.scores=run1.h5/scores.json", "there is no folder"),
        ("output.html=/proc/page.html", "can't be written"),
        ("output.rejected=.", "it is a folder"),
        ("output.log=no/log", "there is no folder"),
        ("output.rejected=hits.expt", "two outputs"),
    ],
)
def test_unusable_parameter(images, model, parameter, message):
    with pytest.raises(Sorry, match=message) as problem:
        run([images, model, ONE, parameter])
    assert "\n" not in str(problem.value)
    assert not OUTPUTS - {"dials.cnn_screen.log"} & set(os.listdir())


def test_gpu_without_a_gpu(images, model):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(Sorry, match="torch finds no GPU; set device=cpu"):
        run([images, model, ONE, "device=cuda"])


def test_truncated_model(images, level_model):
    Path("short.safetensors").write_bytes(level_model.read_bytes()[:-100])
    with pytest.raises(Sorry, match=r"short.safetensors.* damaged"):
        run([images, ONE, "model=short.safetensors"])


@pytest.mark.parametrize("args", [[], ["mp.nproc=1"], ["-v"]], ids=str)
def test_no_images(args, model):
    with pytest.raises(Sorry, match="no images: give an"):
        run([model, *args])


def test_no_image_can_be_classified(write_levels, model):
    write_levels("run1.h5", [0, 0])
    with pytest.raises(Sorry, match=r"none of the 2 .* first, run1.h5 .1.: ever"):
        run(["run1.h5", model, ONE])
    assert not Path("hits.expt").exists()


def test_older_outputs_survive_an_error(images, write_levels, model):
    names = ("hits.expt", "cnn_screen.json", "cnn_screen.html")
    for name in names:
        Path(name).write_text("older")
    write_levels("dark.h5", [0])
    for bad in (["dark.h5", model], [images, "model=gone"], [images, model, "x=1"]):
        with pytest.raises(Sorry):
            run([*bad, ONE])
    assert [Path(name).read_text() for name in names] == ["older"] * 3
    assert not list(Path().glob(".*"))


def test_error_in_a_shell(images, start):
    program = start("missing.h5", ONE)
    out, errors = program.communicate(timeout=60)
    assert program.returncode == 1
    assert errors == (
        "Sorry: there is no file 'missing.h5', nor a parameter or option so named\n"
    )
    assert out == ""
