"""Small experiments, quick to simulate, with the angles of the real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dials_cnn_screen.simulation.defects import Defects
from dials_cnn_screen.simulation.detector import Detector
from dials_cnn_screen.simulation.experiments import EXPERIMENTS, Eye

# Two modules of two tiles of 80 x 90 pixels, side by side and one above the other.
TILES = (
    (10, 10, 90, 100),
    (10, 103, 90, 193),
    (100, 10, 190, 90),
    (193, 10, 283, 90),
)


@pytest.fixture
def ccd():
    """A detector as the Rayonix, 200 x 240 pixels."""
    return Detector(
        shape=(200, 240),
        pixel_size=0.7,
        beam_centre=(100.0, 120.0),
        gain=1.5,
        dark_noise=1.5,
        pedestal=10.0,
        saturation=65535,
        min_trusted=1,
        psf=0.85,
        hole_radius=6.5,
    )


@pytest.fixture
def pad():
    """A detector as the CSPAD, 300 x 200 pixels."""
    return Detector(
        shape=(300, 200),
        pixel_size=0.7,
        beam_centre=(150.0, 100.0),
        gain=4.55,
        dark_noise=2.5,
        pedestal=0.0,
        saturation=14000,
        min_trusted=-400,
        active_areas=TILES,
        defects=Defects(tile_gain=0.06),
    )


@pytest.fixture
def ccd_experiment(ccd):
    """Cyclophilin A on the small CCD."""
    return replace(
        EXPERIMENTS["LO19"],
        detector=ccd,
        d_min=2.5,
        ring=(20.0, 200.0),
        air=(20.0, 150.0),
        lattices=(0.6, 0.25, 0.15),
        eye=Eye(),
    )


@pytest.fixture
def pad_experiment(pad):
    """Thermolysin on the small pixel array detector."""
    return replace(EXPERIMENTS["L498"], detector=pad, d_min=2.5)
