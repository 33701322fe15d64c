from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from dials_cnn_screen.simulation import powder
from dials_cnn_screen.simulation.detector import resolution_radius
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.powder import draw_grains, draw_powder, powder_rings

EXPERIMENT = EXPERIMENTS["LO19"]
WAVELENGTH = EXPERIMENT.wavelength


def with_powder(*spacings: float):
    background = replace(EXPERIMENT.background, powder=spacings)
    return replace(EXPERIMENT, background=background)


def test_powders_are_common_ones_and_any_lattice():
    drawn = [draw_powder(np.random.default_rng(seed)) for seed in range(60)]
    common = [spacings in powder.POWDERS.values() for spacings in drawn]
    assert 15 < sum(common) < 45
    for spacings in drawn:
        assert 1 <= len(spacings) <= 25
        assert 0.4 < min(spacings) <= max(spacings) < 130
    # Those of salt are small and those of protein large.
    largest = [
        max(s) for s, is_common in zip(drawn, common, strict=True) if not is_common
    ]
    assert min(largest) < 15 < 25 < max(largest)


def test_rings_of_a_lattice_are_those_of_its_cell():
    # Of a cubic lattice (d0 / d)^2 are whole numbers.
    found = 0
    for seed in range(40):
        spacings = np.array(
            powder._lattice_spacings((5.0, 5.001), np.random.default_rng(seed))
        )
        squares = (5.0 / spacings) ** 2
        if np.abs(squares - squares.round()).max() < 0.02:
            found += 1
    assert found >= 20  # cubic, tetragonal and orthorhombic: all edges are the same


@pytest.mark.parametrize("most", [10, 2000])
def test_grains_are_on_their_rings(most):
    experiment = with_powder(3.67, 2.25)
    radii = [
        resolution_radius(experiment.detector, d, experiment.distance, WAVELENGTH)
        for d in (3.67, 2.25)
    ]
    numbers = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        grains = draw_grains(experiment, WAVELENGTH, most, rng)
        numbers.append(len(grains))
        centre = experiment.detector.beam_centre
        radius = np.hypot(grains.slow - centre[0], grains.fast - centre[1])
        off = np.abs(radius[:, None] / radii - 1).min(axis=1)
        assert (off < 0.03).all()
    assert max(numbers) <= most
    assert max(numbers) > most / 5


def test_smooth_rings_have_the_spacings():
    rings = powder_rings((3.9, 3.67), 10.0, np.random.default_rng(1))
    assert [ring.d for ring in rings] == [3.9, 3.67]
    assert all(ring.peak > 0 and ring.width > 0 for ring in rings)
