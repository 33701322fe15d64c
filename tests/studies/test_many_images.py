from __future__ import annotations

import pytest

pytest.importorskip("dials")

import h5py

from dials_cnn_screen.studies.many_images import measure, write_images

pytestmark = pytest.mark.usefixtures("installed_formats")


def test_a_run_is_measured(tmp_path):
    path = tmp_path / "small.h5"
    write_images(path, 130)
    with h5py.File(path) as file:
        images = file["data/chunk00/images"][()]
    assert images.shape == (130, 128, 128)
    assert (images[100:] == images[:30]).all()
    bright = (images > 150).sum(axis=(1, 2))
    assert (bright[::10] > 20).all()
    assert bright.sum() == bright[::10].sum()
    row = [part.strip() for part in measure(path, 130, 1).strip("|").split("|")]
    assert row[0] == "130"
    assert 0 < float(row[2]) < 120
    assert 50 < float(row[3]) < 4000


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"none\.h5 mp\.nproc=1 failed: .*no file"):
        measure(tmp_path / "none.h5", 1, 1)
