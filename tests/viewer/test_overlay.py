from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.viewer.overlay import spots_in_reflections, spots_in_scores

IMAGES = [("/data/a.h5", 1), ("/data/a.h5", 2), ("/data/a.h5", 3)]
NAMES = [("a.h5", 1), ("a.h5", 2), ("a.h5", 3)]


def test_spots_of_the_model():
    scores = {NAMES[0]: {"spots": [[10, 20], [0, 5]]}, NAMES[1]: {"spots": []}}
    spots = spots_in_scores(IMAGES, NAMES, scores | {NAMES[2]: {"spots": None}})
    assert set(spots) == set(IMAGES[:2])
    # (slow, fast) of pixels; the centre of the first is at (0.5, 0.5).
    np.testing.assert_array_equal(spots[IMAGES[0]].places, [[10.5, 20.5], [0.5, 5.5]])
    assert spots[IMAGES[0]].panels is None
    assert spots[IMAGES[1]].places.shape == (0, 2)


def test_model_that_sees_no_spots():
    with pytest.raises(ValueError, match="no spots of these images"):
        spots_in_scores(IMAGES, NAMES, {NAMES[0]: {"spots": None}})


@pytest.fixture
def experiments(tmp_path, write_levels, installed_formats):
    path = write_levels(tmp_path / "run.h5", [50, 150, 250])
    return ExperimentListFactory.from_filenames([str(path)])


def reflections(*spots):
    """A table of spots: experiment, panel, fast, slow."""
    table = flex.reflection_table()
    number, panel, fast, slow = zip(*spots, strict=True)
    table["id"] = flex.int(number)
    table["panel"] = flex.size_t(panel)
    z = [0.5] * len(number)
    table["xyzobs.px.value"] = flex.vec3_double(
        flex.double(fast), flex.double(slow), flex.double(z)
    )
    return table


def test_spots_of_find_spots(experiments):
    table = reflections((0, 0, 11.5, 22.5), (2, 0, 1.0, 2.0), (2, 0, 3.0, 4.0))
    found = spots_in_reflections(experiments, [table])
    by_number = {number: spots for (_, number), spots in found.items()}
    assert set(by_number) == {1, 3}
    np.testing.assert_array_equal(by_number[1].places, [[22.5, 11.5]])
    np.testing.assert_array_equal(by_number[3].places, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(by_number[3].panels, [0, 0])


def test_spots_of_other_experiments(experiments):
    with pytest.raises(ValueError, match="reflections are of 8 experiments"):
        spots_in_reflections(experiments, [reflections((7, 0, 1.0, 1.0))])
