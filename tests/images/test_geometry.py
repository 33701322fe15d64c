from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.imageset import ImageSet, ImageSetData, MemReader
from dxtbx.model import BeamFactory, Detector, Experiment, ExperimentList

from dials_cnn_screen.images.geometry import (
    check_geometry,
    find_spacings,
    format_far_off,
)
from dials_cnn_screen.images.panels import find_outline
from dials_cnn_screen.images.read import read_frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName

BEAM = BeamFactory.simple(1.0)


def flat(x=-1.0, y=1.5, z=-100.0):
    """Frame of a panel that stands normal to the beam, fast +x and slow -y."""
    return (1, 0, 0), (0, -1, 0), (x, y, z)


def beam(wavelength):
    changed = BeamFactory.simple(1.0)
    changed.set_wavelength(wavelength)
    return changed


class Unread:
    """An image that must not be read."""

    def get_raw_data(self):
        pytest.fail("it is read")


def imageset_of(detector, image, beam=BEAM):
    imageset = ImageSet(ImageSetData(MemReader([image]), None))
    imageset.set_detector(detector, 0)
    imageset.set_beam(beam, 0)
    return imageset


def test_what_makes_sense(make_detector):
    check_geometry(make_detector(flat()), BEAM)
    check_geometry(make_detector(flat(z=100)), BEAM)  # upstream, as some have it
    # A panel edge-on, through the sample, beside one that faces the beam.
    edge_on = (1, 0, 0), (0, 0, 1), (0, 0, 0)
    check_geometry(make_detector(flat(), edge_on), BEAM)


@pytest.mark.parametrize("wavelength", [0, -1, math.nan, math.inf])
def test_wavelength(make_detector, wavelength):
    with pytest.raises(ValueError, match="the wavelength is"):
        check_geometry(make_detector(flat()), beam(wavelength))


@pytest.mark.parametrize("size", [0, -0.1, math.nan, math.inf])
def test_pixel_size(make_detector, size):
    detector = make_detector(flat(), flat(x=5))
    detector[1].set_pixel_size((0.1, size))
    with pytest.raises(ValueError, match=r"pixels of 0.1 x .* mm; check the geometry"):
        check_geometry(detector, BEAM)


@pytest.mark.parametrize("z", [0, math.nan])
def test_distance(make_detector, z):
    detector = make_detector(flat())
    detector[0].set_local_frame(*flat(z=z))
    with pytest.raises(ValueError, match=r"the detector's distance is (0|nan) mm"):
        check_geometry(detector, BEAM)


@pytest.mark.parametrize("panels", [[flat()], [flat(), flat(x=5)]], ids=["one", "two"])
def test_what_is_too_large_is_not_read(make_detector, panels):
    detector = make_detector(*panels, size=(2**25 + 1, 2))
    with pytest.raises(ValueError, match="more than 67108864; check the geometry"):
        check_geometry(detector, BEAM)
    imageset = imageset_of(detector, Unread())
    still = Still(imageset, 0, ImageName("a.h5", 1), [0])
    for read in (lambda: read_frame(imageset, 0), lambda: Source().read(still)):
        with pytest.raises(ValueError, match="is said to have"):
            read()


def test_image_without_a_model():
    imageset = imageset_of(Detector(), Unread())
    with pytest.raises(ValueError, match="the file may be incomplete or its header"):
        read_frame(imageset, 0)


def experiments_at(make_detector, *places):
    image = flumpy.from_numpy(np.zeros((30, 20), np.int32))
    detectors = [make_detector(flat(x=x)) for x in places]
    return ExperimentList(
        [
            Experiment(
                beam=BEAM, detector=detector, imageset=imageset_of(detector, (image,))
            )
            for detector in detectors
            for _ in range(2)
        ]
    )


def test_one_sentence_on_a_beam_far_off(make_detector):
    # 20 x 30 pixels of 0.1 mm: 3 mm long.
    assert format_far_off(experiments_at(make_detector, -1, 2.9, -4.9)) is None
    text = format_far_off(experiments_at(make_detector, -1, 6, 9, 0))
    assert text.startswith("The beam misses the detector by 2.0 times its size (")
    assert "and 1 more detector models); check the beam centre" in text


def test_models_that_are_missing_or_make_no_sense_are_no_beam_far_off(make_detector):
    experiments = experiments_at(make_detector, -1)
    experiments[0].detector = None
    experiments[1].detector = make_detector(flat(x=6))
    experiments[1].detector[0].set_pixel_size((0.1, math.nan))
    assert format_far_off(experiments) is None


def test_spacings_of_rings(make_detector):
    """Bragg's law, on two panels with a gap between them."""
    detector = make_detector(
        ((1, 0, 0), (0, -1, 0), (-2, 4, -100)),
        ((1, 0, 0), (0, -1, 0), (-2, 0, -100)),
        size=(40, 30),
    )
    _, (slow, fast) = find_outline(detector, BEAM)
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack(
        [slow + 18 * np.sin(angle), fast + 18 * np.cos(angle)], axis=1
    ).astype(np.int64)
    in_gap = (circle[:, 0] >= 30) & (circle[:, 0] < 40)
    (d,) = find_spacings(detector, BEAM, [circle[~in_gap]])
    expected = 1.0 / (2 * np.sin(np.arctan(1.8 / 100) / 2))
    assert d == pytest.approx(expected, rel=0.03)
    assert find_spacings(detector, BEAM, []) == ()
