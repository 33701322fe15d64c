from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.cxidb76 import write_shots
from dials_cnn_screen.simulation.detector import usable_pixels
from dials_cnn_screen.simulation.shot import simulate_shot

AIMS = [Label.HIT, Label.MISS, Label.MAYBE]


@pytest.fixture(params=["ccd_experiment", "pad_experiment"])
def experiment(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def shots(experiment):
    return [simulate_shot(experiment, aim, i) for i, aim in enumerate(AIMS)]


@pytest.fixture
def path(tmp_path, experiment, shots):
    write_shots(tmp_path / "shots.h5", experiment, iter(shots), len(shots))
    return tmp_path / "shots.h5"


def test_layout(path, experiment, shots):
    detector = experiment.detector
    with h5py.File(path) as file:
        metadata = {name: x[()] for name, x in file["metadata"].items()}
        chunk = file["data/chunk00"]
        images = chunk["images"]
        assert (images.dtype, images.compression) == (np.int32, None)
        np.testing.assert_array_equal(images, [shot.image for shot in shots])
        assert chunk["wavelength"][()].tolist() == [s.wavelength for s in shots]
        assert chunk["distance"][()].tolist() == [experiment.distance] * 3
        assert chunk["timestamp"].shape == (3,)
        visible = file["simulation/visible_spots"][()]
    assert metadata["idh5_version"] == b"idh5_v1.0"
    assert metadata["PIXEL_SIZE"] == detector.pixel_size
    assert metadata["BEAM_CENTER_X"] == pytest.approx(0.7 * detector.beam_centre[1])
    assert metadata["BEAM_CENTER_Y"] == pytest.approx(0.7 * detector.beam_centre[0])
    assert (metadata["SIZE2"], metadata["SIZE1"]) == detector.shape
    areas = metadata["ACTIVE_AREAS"].reshape(-1, 4)
    assert len(areas) == (4 if detector.active_areas else 1)
    for i, shot in enumerate(shots):
        np.testing.assert_array_equal(visible[visible[:, 0] == i, 1:], shot.visible)


def test_shots_without_spots(tmp_path, experiment):
    path = tmp_path / "shots.h5"
    blank = replace(experiment, few_spots=0.0)
    misses = [simulate_shot(blank, Label.MISS, i) for i in range(2)]
    write_shots(path, experiment, misses, len(misses))
    with h5py.File(path) as file:
        assert file["simulation/visible_spots"].shape == (0, 3)


def read(path):
    """Each still as dxtbx gives it: beam, panel, image and mask."""
    flumpy = pytest.importorskip("dxtbx.flumpy")
    factory = pytest.importorskip("dxtbx.model.experiment_list").ExperimentListFactory
    for experiment in factory.from_filenames([str(path)]):
        (image,) = experiment.imageset.get_raw_data(0)
        (mask,) = experiment.imageset.get_mask(0)
        yield (
            experiment.beam,
            experiment.detector[0],
            flumpy.to_numpy(image),
            flumpy.to_numpy(mask),
        )


def test_read_back_through_dxtbx(path, experiment, shots, installed_formats):
    detector = experiment.detector
    for (beam, panel, image, mask), shot in zip(read(path), shots, strict=True):
        assert beam.get_wavelength() == pytest.approx(shot.wavelength)
        assert panel.get_directed_distance() == pytest.approx(shot.distance)
        fast, slow = panel.get_beam_centre_px(beam.get_s0())
        assert (slow, fast) == pytest.approx(detector.beam_centre)
        np.testing.assert_array_equal(image, shot.image)
        # Training leaves out the same pixels as screening will.
        np.testing.assert_array_equal(mask, usable_pixels(detector, shot.image))


def test_resolution_of_the_spots_through_dxtbx(path, shots, installed_formats):
    beam, panel, _, _ = next(read(path))
    spacings = [
        panel.get_resolution_at_pixel(beam.get_s0(), (fast, slow))
        for slow, fast in shots[0].visible
    ]
    # The experiments have d_min = 2.5; the nearest spots are far from the beam's hole.
    assert min(spacings) > 2.4
    assert max(spacings) < 100
