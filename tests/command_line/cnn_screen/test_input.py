"""Input as people have it: folders, lists, numbers, a mask, rotation headers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry
from scitbx.array_family import flex

from dials_cnn_screen.command_line.cnn_screen import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
QUICK = ["mp.nproc=1", "html=None"]


@pytest.mark.parametrize(
    ("args", "numbers"),
    [
        (["select.images=2-4,7"], [2, 3, 4, 7]),
        (["select.every=3"], [1, 4, 7]),
        (["select.max_images=2"], [1, 2]),
        (["select.images=2-7", "select.every=2", "select.max_images=2"], [2, 4]),
        (["run1.h5:3"], [3]),
        (["run1.h5:2-6", "select.every=2"], [2, 4, 6]),
    ],
    ids=str,
)
def test_some_images(images, model, args, numbers, column, read, places):
    args = args if args[0].startswith("run1") else [images, *args]
    run([*args, model, *QUICK, "threshold=0"])
    assert column("frame") == numbers
    assert places(read("hits.expt")) == [("run1.h5", n - 1) for n in numbers]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run1.h5", "select.images=8"], "images=8: the input has 7 images"),
        (["run1.h5", "select.images=x"], "'x' is not of the form '1-500,800'"),
        (["run1.h5:9"], "there is no image 9 in .*run1.h5"),
    ],
)
def test_images_that_are_not_there(images, model, args, message):
    with pytest.raises(Sorry, match=message):
        run([*args, model, *QUICK])


def test_folder(images, model, column):
    os.mkdir("run")
    os.rename("run1.h5", "run/run1.h5")
    Path("run/note.txt").write_text("a good day\n")
    run(["run", model, *QUICK])
    assert column("file") == ["run1.h5"] * 7
    log = Path("dials.cnn_screen.log").read_text()
    assert "1 files of run are no images: left out" in log


def test_list(images, write_levels, model, column):
    write_levels("run2.h5", [50, 250])
    Path("files.lst").write_text("run2.h5 //1\nrun1.h5 //0\nrun1.h5 //2\n")
    run(["files.lst", model, *QUICK])
    # DIALS imports files in order of their names.
    assert column("file") == ["run1.h5", "run1.h5", "run2.h5"]
    assert column("frame") == [1, 3, 2]


def write_mask(path: str, size: int = 80) -> str:
    """A mask that leaves the last 10 rows."""
    mask = flex.bool(flex.grid(size, size), True)
    mask.matrix_paste_block_in_place(flex.bool(flex.grid(size - 10, size), False), 0, 0)
    Path(path).write_bytes(pickle.dumps((mask,)))
    return path


@pytest.mark.parametrize("as_expt", [False, True])
def test_mask(write_cxidb76, spot_model, imported, as_expt, column, read):
    import numpy as np

    frames = np.random.default_rng(0).poisson(20, (2, 80, 80)).astype(np.int32)
    frames[:, 20, 60], frames[:, 75, 30] = 900, 700
    centre = {"BEAM_CENTER_X": 40 * 0.0886, "BEAM_CENTER_Y": 40 * 0.0886}
    write_cxidb76("spots.h5", frames, kind="Rayonix", **centre)
    given = "spots.h5"
    if as_expt:
        imported("spots.h5")
        given = "imported.expt"
    run([given, f"model={spot_model}", *QUICK])
    assert column("spots") == [[[20, 60], [75, 30]]] * 2
    write_mask("rows.mask")
    run([given, f"model={spot_model}", "mask=rows.mask", *QUICK])
    assert column("spots") == [[[75, 30]]] * 2
    kept = read("hits.expt")[0].imageset
    assert kept.external_lookup.mask.filename.endswith("rows.mask")


def test_mask_that_does_not_fit(images, model):
    write_mask("small.mask", 50)
    Path("none.mask").write_text("hello")
    with pytest.raises(Sorry, match=r"has 1 panel of 50 x 50 pixels, and .*run1.h5"):
        run([images, model, "mask=small.mask", *QUICK])
    with pytest.raises(Sorry, match=r"mask=none.mask is no mask of dials.generate_m"):
        run([images, model, "mask=none.mask", *QUICK])


def test_rotation_headers(rotation, model, column, read):
    run([rotation, model, *QUICK, "threshold=0", "select.images=2-3"])
    assert column("file") == ["thau_15.cbf.bz2", "thau_16.cbf.bz2"]
    assert all(error is None for error in column("error"))
    kept = read("hits.expt")
    assert [experiment.is_still() for experiment in kept] == [True, True]
    assert [experiment.scan for experiment in kept] == [None, None]
    assert [e.identifier for e in kept] == ["scan-1", "scan-2"]
    assert Path(kept[1].imageset.get_path(0)).name == "thau_16.cbf.bz2"
    assert kept[1].imageset.get_raw_data(0)[0].focus() == (2527, 2463)
    log = Path("dials.cnn_screen.log").read_text()
    assert "3 images have the header of a rotation scan and are taken for stills" in log


def test_rotation_headers_refused(rotation, model):
    with pytest.raises(Sorry, match="is a rotation scan"):
        run([rotation, model, *QUICK, "convert_sequences_to_stills=False"])
