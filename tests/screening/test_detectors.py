"""Spots of images on the pixels of their detectors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model import BeamFactory, Detector

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.detectors import group_by_detector
from dials_cnn_screen.screening.results import decide

BEAM = BeamFactory.simple(1.0)


def make_detector(distance=100.0, height=30) -> Detector:
    """Two panels of 20 x 30 pixels (fast, slow), 5 pixels of a gap between them."""
    detector = Detector()
    for y in (0.0, -0.1 * (height + 5)):
        panel = detector.add_panel()
        panel.set_image_size((20, height))
        panel.set_pixel_size((0.1, 0.1))
        panel.set_frame((1, 0, 0), (0, -1, 0), (-1.0, y, -distance))
    return detector


def make_image(place, detector, spots):
    """Place, still and result; spots: (slow, fast) on the frame, None for an error."""
    imageset = SimpleNamespace(get_detector=lambda _: detector, get_beam=lambda _: BEAM)
    name = ImageName("run.h5", place + 1)
    prediction = None
    if spots is not None:
        pixels = np.array(spots, np.int64).reshape(-1, 2)
        prediction = make_prediction([1, 0, 0], pixels)
    error = None if prediction else "it is torn"
    result = decide(name, prediction, error, Decision())
    return place, Still(imageset, 0, name, [place]), result


def test_panels_and_distances():
    near, far = make_detector(100.0), make_detector(120.0)
    (group,) = group_by_detector(
        [
            make_image(0, near, [[2, 3], [36, 4]]),
            make_image(1, near, []),
            make_image(2, near, None),
            make_image(3, far, [[64, 19]]),
        ]
    )
    spots = group.spots()
    assert group.places == [0, 1, 3]
    assert spots.sizes == [(30, 20), (30, 20)]
    assert spots.n_images == 3
    assert spots.image.tolist() == [0, 0, 2]
    assert spots.panel.tolist() == [0, 1, 1]
    assert spots.pixel.tolist() == [[2, 3], [1, 4], [29, 19]]


def test_detectors_are_apart():
    one, two = make_detector(), make_detector(height=20)
    images = [make_image(i, (one, two)[i % 2], [[1, i]]) for i in range(4)]
    groups = group_by_detector(images)
    assert [group.places for group in groups] == [[0, 2], [1, 3]]
    assert [group.spots().pixel.tolist() for group in groups] == [
        [[1, 0], [1, 2]],
        [[1, 1], [1, 3]],
    ]


def test_models_that_look_for_no_spots():
    place, still, _ = make_image(0, make_detector(), [])
    result = decide(still.name, make_prediction([1, 0, 0]), None, Decision())
    assert group_by_detector([(place, still, result)]) == []
