from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import decide
from dials_cnn_screen.viewer.overlay import spots_in_reflections, spots_in_results

NAMES = [ImageName("/data/a.h5", n) for n in (1, 2, 3, 4, 5)]


def result(spots, name=NAMES[0]):
    """The result of an image with spots at these pixels; None for no spot finding."""
    pixels = None if spots is None else np.array(spots, np.int64).reshape(-1, 2)
    prediction = make_prediction([0.5, 0.25, 0.25], pixels)
    return decide(name, prediction, None, Decision())


def test_spots_of_the_model():
    failed = decide(NAMES[3], None, "broken", Decision())
    results = [result([[10, 20], [0, 5]]), result([]), result(None), failed, None]
    spots = spots_in_results(NAMES, results)
    assert list(spots) == NAMES[:2]
    # (slow, fast) of pixels; the centre of the first is at (0.5, 0.5).
    first, second = spots.values()
    np.testing.assert_array_equal(first.positions, [[10.5, 20.5], [0.5, 5.5]])
    assert first.panels is None
    assert second.positions.shape == (0, 2)


def test_model_that_looks_for_no_spots():
    with pytest.raises(ValueError, match="no spots of these images"):
        spots_in_results(NAMES[:2], [result(None), None])


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
    by_number = {name.number: spots for name, spots in found.items()}
    assert set(by_number) == {1, 3}
    np.testing.assert_array_equal(by_number[1].positions, [[22.5, 11.5]])
    np.testing.assert_array_equal(by_number[3].positions, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(by_number[3].panels, [0, 0])


def test_spots_of_other_experiments(experiments):
    with pytest.raises(ValueError, match="reflections are of 8 experiments"):
        spots_in_reflections(experiments, [reflections((7, 0, 1.0, 1.0))])
