from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.outputs import projection
from dials_cnn_screen.outputs.projection import Projection, project

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")


@pytest.fixture
def stills(write_levels):
    """Five images of a level each, 250 the highest."""
    path = write_levels("run.h5", [20, 250, 30, 90, 40])
    return list_stills(ExperimentListFactory.from_filenames([str(path)]))


@pytest.mark.parametrize("nproc", [1, 2, 3])
def test_the_maximum_of_all(stills, nproc):
    found = project(stills, nproc)
    brightest = project(stills[1:2], 1)
    assert found.n_images == 5
    np.testing.assert_array_equal(found.frame.data, brightest.frame.data)
    np.testing.assert_array_equal(found.frame.mask, brightest.frame.mask)
    assert found.frame.beam_centre == brightest.frame.beam_centre


def test_at_most_so_many_are_read(stills, monkeypatch):
    monkeypatch.setattr(projection, "MOST", 2)
    found = project(stills, 1)
    assert found.n_images == 2
    # The first and the last.
    expected = project(stills[-1:], 1).frame.data
    np.testing.assert_array_equal(found.frame.data, expected)


def test_an_image_that_is_gone_is_left_out(stills, monkeypatch):
    read = projection.Source.read

    def fail(source, still):
        if still.name.number == 2:
            raise OSError("gone")
        return read(source, still)

    monkeypatch.setattr(projection.Source, "read", fail)
    assert project(stills, 1).n_images == 4
    assert project(stills[1:2], 1) is None


def test_no_images():
    assert project([], 1) is None


def test_unused_pixels_do_not_count():
    joined = Projection(np.full((2, 3), -np.inf, np.float32), (1.0, 1.5))
    mask = np.ones((2, 3), bool)
    mask[0, 0] = False
    joined.add(np.full((2, 3), 7.0, np.float32), mask)
    mask[0, 1] = False
    joined.add(np.full((2, 3), 9.0, np.float32), mask)
    assert joined.n_images == 2
    assert joined.frame.data.tolist() == [[0, 7, 9], [9, 9, 9]]
    assert joined.frame.mask.tolist() == [[False, True, True], [True, True, True]]


def test_another_shape_is_left_out():
    joined = Projection(np.zeros((2, 3), np.float32), (1.0, 1.5), 1)
    joined.add(np.ones((3, 2), np.float32), np.ones((3, 2), bool))
    assert joined.n_images == 1
    assert not joined.frame.data.any()
