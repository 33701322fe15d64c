from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dxtbx")

from dxtbx.model import BeamFactory, Detector, DetectorFactory

from dials_cnn_screen.images.geometry import find_d_spots
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs.resolution import find_reach, find_resolutions
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import decide

BEAM = BeamFactory.simple(1.3)
HIT, MISS = (0.9, 0.08, 0.02), (0.01, 0.02, 0.97)


def one_panel() -> Detector:
    size, pixel, beam = (1000, 1200), (0.1, 0.1), (50, 60)
    return DetectorFactory.simple("CCD", 120, beam, "+x", "-y", pixel, size)


def still(detector=None, beam=BEAM):
    imageset = SimpleNamespace(get_detector=lambda i: detector, get_beam=lambda i: beam)
    return SimpleNamespace(imageset=imageset, position=0)


def in_a_row(n: int) -> np.ndarray:
    """Spots from near the beam along fast, 10 pixels apart."""
    return np.stack([np.full(n, 600), 510 + 10 * np.arange(n)], axis=1)


def test_as_dxtbx_has_it():
    detector, spots = one_panel(), np.array([[10, 20], [300, 700], [1100, 900]])
    expected = [
        detector[0].get_resolution_at_pixel(BEAM.get_s0(), (fast + 0.5, slow + 0.5))
        for slow, fast in spots.tolist()
    ]
    np.testing.assert_allclose(find_d_spots(detector, BEAM, spots), expected)


def test_panels_of_their_own_place():
    detector = one_panel()
    second = detector.add_panel(detector[0])
    # To the right of the first, 20 pixels away.
    origin = np.add(detector[0].get_origin(), (102, 0, 0))
    second.set_frame((1, 0, 0), (0, -1, 0), tuple(origin))
    spots = np.array([[600, 900], [600, 1120]])
    d = find_d_spots(detector, BEAM, spots)
    s0 = BEAM.get_s0()
    expected = [
        detector[0].get_resolution_at_pixel(s0, (900.5, 600.5)),
        second.get_resolution_at_pixel(s0, (100.5, 600.5)),
    ]
    np.testing.assert_allclose(d, expected, rtol=1e-3)


def test_a_false_spot_in_a_corner_does_not_count():
    spots = in_a_row(40)
    with_corner = np.vstack([spots, [[0, 0]]])
    found, alone = (find_reach(still(one_panel()), s) for s in (with_corner, spots))
    corner = find_d_spots(one_panel(), BEAM, np.array([[0, 0]]))[0]
    assert corner < 0.8 * found
    assert found == pytest.approx(alone, rel=0.06)


@pytest.mark.parametrize(
    ("image", "spots"),
    [
        (still(one_panel()), in_a_row(10)),
        (still(None), in_a_row(40)),
        (still(one_panel(), None), in_a_row(40)),
    ],
)
def test_nothing_to_tell_it_by(image, spots):
    assert find_reach(image, spots) is None


@pytest.fixture
def images():
    """Two hits and a miss, of 40 spots each."""
    return [
        decide(
            ImageName("run.h5", i), make_prediction(p, in_a_row(40)), None, Decision()
        )
        for i, p in enumerate((HIT, MISS, HIT), 1)
    ]


def test_of_hits_alone(images):
    caption, found = find_resolutions(images, [still(one_panel())] * 3)
    assert found == [find_reach(still(one_panel()), in_a_row(40))] * 2
    assert caption.startswith("Resolution within which 95% of a hit's spots lie: ")
    assert caption.endswith(f"best {found[0]:.1f} Å, of 2 hits")


def test_that_of_dials_where_it_is_known(images):
    images = [
        replace(image, d_min=d)
        for image, d in zip(images, (2.5, 1.1, None), strict=True)
    ]
    caption, found = find_resolutions(images, [still(one_panel())] * 3)
    assert found == [2.5]
    assert "as DIALS estimates it from its spots: median 2.5 Å" in caption


def test_where_there_is_none(images):
    assert find_resolutions(images, [still(None)] * 3) == ("", [])
