from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.simulation.background import (
    Background,
    KaptonShadow,
    Ring,
    Spike,
    expected_photons,
)
from dials_cnn_screen.simulation.detector import radius_map, resolution_radius

DISTANCE, WAVELENGTH = 120.0, 1.3
NOTHING = {"rings": (), "air": 0.0, "air_decay": 0.1}


def photons_of(detector, **background):
    background = Background(**{**NOTHING, **background})
    return expected_photons(background, detector, DISTANCE, WAVELENGTH).numpy()


def dimming(detector, row, column):
    """Polarisation and cos^3 of the scattering angle at a pixel, by hand."""
    y = (row + 0.5 - detector.beam_centre[0]) * detector.pixel_size
    x = (column + 0.5 - detector.beam_centre[1]) * detector.pixel_size
    two_theta = math.atan(math.hypot(x, y) / DISTANCE)
    cos2_phi = x * x / (x * x + y * y)
    return (1 - math.sin(two_theta) ** 2 * cos2_phi) * math.cos(two_theta) ** 3


def inverse_spacing(detector, row, column):
    y = (row + 0.5 - detector.beam_centre[0]) * detector.pixel_size
    x = (column + 0.5 - detector.beam_centre[1]) * detector.pixel_size
    two_theta = math.atan(math.hypot(x, y) / DISTANCE)
    return 2 * math.sin(two_theta / 2) / WAVELENGTH


def test_no_beam_no_photons(ccd):
    assert not photons_of(ccd).any()


@pytest.mark.parametrize(("row", "column"), [(20, 120), (100, 10), (160, 200)])
def test_air_scatter(ccd, row, column):
    photons = photons_of(ccd, air=40.0)
    s = inverse_spacing(ccd, row, column)
    expected = 40 * math.exp(-s / 0.1) * dimming(ccd, row, column)
    assert photons[row, column] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("row", "column"), [(20, 120), (100, 10), (160, 200)])
def test_ring(ccd, row, column):
    photons = photons_of(ccd, rings=(Ring(d=3.2, width=0.04, peak=100.0),))
    deviation = inverse_spacing(ccd, row, column) - 1 / 3.2
    width = 0.04 if deviation < 0 else 1.8 * 0.04
    expected = 100 * math.exp(-0.5 * (deviation / width) ** 2)
    assert photons[row, column] == pytest.approx(
        expected * dimming(ccd, row, column), rel=0.02, abs=0.01
    )


def test_ring_is_where_braggs_law_has_it(ccd):
    photons = photons_of(ccd, rings=(Ring(d=3.2, width=0.01, peak=100.0),))
    radius = radius_map(ccd).numpy()[:100, 120]
    expected = resolution_radius(ccd, 3.2, DISTANCE, WAVELENGTH)
    assert radius[photons[:100, 120].argmax()] == pytest.approx(expected, abs=1)


def test_horizontal_polarisation_dims_the_horizontal(ccd):
    # 80 pixels from the beam, sideways and upwards.
    photons = photons_of(ccd, air=1.0, air_decay=1e9)
    sin2 = math.sin(math.atan(79.5 * 0.7 / DISTANCE)) ** 2
    ratio = photons[100, 120 + 79] / photons[100 + 79, 120]
    assert ratio == pytest.approx(1 - sin2, rel=1e-3)


def test_shadow_on_one_side(ccd):
    common = {"air": 100.0, "air_decay": 1e9}
    bare = photons_of(ccd, **common)
    # Behind Kapton to the left of column 100; direction pi is towards fast = 0.
    shadow = photons_of(ccd, kapton=KaptonShadow(0.7, math.pi, 20.0, 3.0), **common)
    share = shadow / bare
    np.testing.assert_allclose(share[:, 120:], 1, atol=0.01)
    edge, far = share[:, 85].mean(), share[:, 0].mean()
    assert edge == pytest.approx(1 - 0.3 * (1 + 0.5 * math.exp(-14.5 / 150)), abs=0.01)
    assert far == pytest.approx(1 - 0.3 * (1 + 0.5 * math.exp(-99.5 / 150)), abs=0.01)


def test_shadow_never_gives_light(ccd):
    photons = photons_of(ccd, air=100.0, kapton=KaptonShadow(0.6, math.pi, -20.0, 3.0))
    assert (photons >= 0).all()


def test_spike_runs_through_the_beam_on_both_sides(ccd):
    photons = photons_of(ccd, spikes=(Spike(0.0, 0.005, 30.0, 500.0),))
    # Along +fast and -fast: at r pixels, 500 exp(-r / 30), and little beside it.
    for column in (120 + 30, 120 - 31):
        assert photons[100, column] == pytest.approx(
            500 * math.exp(-30.5 / 30), rel=0.1
        )
    assert photons[115, 150] < 1e-3
    assert photons[150, 120] < 1e-3
    turned = photons_of(ccd, spikes=(Spike(math.pi / 2, 0.005, 30.0, 500.0),))
    assert turned[130, 120] == pytest.approx(photons[100, 150], rel=1e-3)


def test_shadowed_rows_are_dark(pad):
    photons = photons_of(replace(pad, shadowed_rows=40), air=10.0)
    assert not photons[260:].any()
    assert (photons[:260] > 0).all()
