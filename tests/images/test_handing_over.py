"""An image that was read for the veto is not read again for spot finding."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still, list_stills


def stills_of(*paths) -> list[Still]:
    return list_stills(ExperimentListFactory.from_filenames(list(map(str, paths))))


def check(stills: list[Still], reads: list, n_checks: int) -> None:
    """n_checks: how many images dxtbx reads: all, or the first to compare."""
    source = Source()
    expected = [s.imageset.get_raw_data(s.position) for s in stills]
    del reads[:]
    for still, raw_data in zip(stills, expected, strict=True):
        still.imageset.clear_cache()
        source.read(still)
        there = len(reads)
        with source.handing_over(still):
            found = still.imageset.get_raw_data(still.position)
            still.imageset.get_corrected_data(still.position)
            still.imageset.get_mask(still.position)
        assert len(reads) == there
        assert len(found) == len(raw_data) == 1
        assert type(found[0]) is type(raw_data[0])
        np.testing.assert_array_equal(
            flumpy.to_numpy(found[0]), flumpy.to_numpy(raw_data[0])
        )
    assert len(reads) == n_checks
    # Afterwards it is read from the file, as by any other program.
    stills[-1].imageset.clear_cache()
    stills[-1].imageset.get_raw_data(stills[-1].position)
    assert len(reads) == n_checks + 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, ">i4"])
def test_hdf5(dtype, write_cxidb76, installed_formats, tmp_path, count_reads):
    images = np.random.default_rng(0).poisson(30, (3, 60, 60)).astype(dtype)
    stills = stills_of(write_cxidb76(tmp_path / "a.h5", images))
    check(stills, count_reads(stills[0].imageset), n_checks=1)


def test_file_that_dxtbx_reads(write_cxidb76, installed_formats, tmp_path, count_reads):
    """As it does where there is one image."""
    images = np.random.default_rng(0).poisson(30, (1, 60, 60)).astype(np.int32)
    stills = stills_of(write_cxidb76(tmp_path / "a.h5", images))
    check(stills, count_reads(stills[0].imageset), n_checks=1)


def test_image_that_could_not_be_read(write_cxidb76, installed_formats, tmp_path):
    images = np.random.default_rng(0).poisson(30, (2, 60, 60)).astype(np.int32)
    first, second = stills_of(write_cxidb76(tmp_path / "a.h5", images))
    source = Source()
    source.read(first)
    second.imageset.set_beam(None, 0)
    with pytest.raises(ValueError, match="no detector or beam"):
        source.read(second)
    with source.handing_over(second):
        found = second.imageset.get_raw_data(0)
    np.testing.assert_array_equal(flumpy.to_numpy(found[0]), images[1])
