from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dials_cnn_screen.simulation.crystal import (
    Crystal,
    Imperfection,
    excited_reflections,
    lattice_points,
    orthogonalisation_matrix,
    random_orientation,
)

THERMOLYSIN = (93.0, 93.0, 130.0, 90.0, 90.0, 120.0)
TRICLINIC = (20.0, 25.0, 31.0, 75.0, 98.0, 112.0)
WAVELENGTH = 1.3


def lengths(points):
    return np.linalg.norm(points, axis=1)


@pytest.mark.parametrize(
    ("cell", "volume"),
    [
        ((42.0, 52.0, 88.0, 90.0, 90.0, 90.0), 42 * 52 * 88),
        (THERMOLYSIN, 93**2 * 130 * math.sqrt(3) / 2),
        ((50.0, 60.0, 70.0, 90.0, 105.0, 90.0), 210_000 * math.sin(math.radians(105))),
    ],
)
def test_cell_volume(cell, volume):
    assert np.linalg.det(orthogonalisation_matrix(cell)) == pytest.approx(volume)


@pytest.mark.parametrize("cell", [THERMOLYSIN, TRICLINIC])
def test_axes_have_the_lengths_and_angles_of_the_cell(cell):
    axes = orthogonalisation_matrix(cell).T
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), cell[:3])
    for i, j, angle in [(1, 2, cell[3]), (0, 2, cell[4]), (0, 1, cell[5])]:
        cosine = axes[i] @ axes[j] / cell[i] / cell[j]
        assert math.degrees(math.acos(cosine)) == pytest.approx(angle)


def spacing(hkl, cell):
    """d of a triclinic lattice by the textbook formula."""
    a, b, c = cell[:3]
    ca, cb, cg = (math.cos(math.radians(x)) for x in cell[3:])
    sa2, sb2, sg2 = 1 - ca * ca, 1 - cb * cb, 1 - cg * cg
    h, k, l = hkl
    v2 = 1 - ca * ca - cb * cb - cg * cg + 2 * ca * cb * cg
    s2 = h * h * sa2 / a**2 + k * k * sb2 / b**2 + l * l * sg2 / c**2
    s2 += 2 * k * l / (b * c) * (cb * cg - ca)
    s2 += 2 * h * l / (a * c) * (ca * cg - cb)
    s2 += 2 * h * k / (a * b) * (ca * cb - cg)
    return math.sqrt(v2 / s2)


@pytest.mark.parametrize("cell", [(42.0, 52.0, 88.0, 90.0, 90.0, 90.0), TRICLINIC])
def test_all_lattice_points_have_the_spacings_of_the_textbook(cell):
    d_min = 8.0
    indices = itertools.product(range(-13, 14), repeat=3)
    expected = [1 / spacing(hkl, cell) for hkl in indices if any(hkl)]
    expected = sorted(s for s in expected if s < 1 / d_min)
    found = np.sort(lengths(lattice_points(Crystal(cell), d_min)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hexagonal_spacing():
    # 1/d^2 = 4/3 (h^2 + hk + k^2) / a^2 + l^2 / c^2; 1 0 0 is the longest for a < c.
    s = lengths(lattice_points(Crystal(THERMOLYSIN), 20.0))
    assert 1 / s.min() == pytest.approx(130.0, rel=1e-5)
    assert np.isclose(1 / s, 93 * math.sqrt(3) / 2, rtol=1e-5).sum() == 6


# Of 13^3 - 1 reflections with indices up to 6, those that a centring leaves: evens and
# odds among -6..6 are 7 and 6.
@pytest.mark.parametrize(
    ("centring", "number"),
    [
        ("P", 13**3 - 1),
        ("A", 13 * (7 * 7 + 6 * 6) - 1),
        ("B", 13 * (7 * 7 + 6 * 6) - 1),
        ("C", 13 * (7 * 7 + 6 * 6) - 1),
        ("I", 7**3 + 3 * 7 * 6 * 6 - 1),
        ("F", 7**3 + 6**3 - 1),
    ],
)
def test_number_of_reflections_of_a_centring(centring, number):
    # In a cube of edge 10 all indices up to 6 are within d_min = 10 / sqrt(108).
    cell = (10.0, 10.0, 10.0, 90.0, 90.0, 90.0)
    points = lattice_points(Crystal(cell, centring), 10 / math.sqrt(108.5))
    hkl = np.rint(10 * points).astype(int)
    assert (np.abs(hkl).max(axis=1) <= 6).sum() == number


@pytest.mark.parametrize(
    ("centring", "absent", "present"),
    [
        ("A", (1, 1, 0), (1, 0, 0)),
        ("B", (1, 1, 0), (0, 1, 0)),
        ("C", (1, 0, 0), (1, 1, 0)),
        ("I", (1, 1, 1), (1, 1, 0)),
        ("F", (1, 1, 0), (1, 1, 1)),
    ],
)
def test_absences(centring, absent, present):
    points = lattice_points(Crystal((10.0, 11.0, 12.0, 90.0, 90.0, 90.0), centring), 5)
    hkl = {tuple(x) for x in np.rint(points * [10, 11, 12]).astype(int)}
    assert present in hkl
    assert absent not in hkl


def test_unknown_centring():
    with pytest.raises(ValueError, match="centring 'R' is not one of P, A, B, C, I, F"):
        lattice_points(Crystal(THERMOLYSIN, "R"), 10.0)


def test_orientations_are_rotations():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rotation = random_orientation(rng)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)


def test_orientations_are_spread_evenly():
    rng = np.random.default_rng(0)
    rotations = np.array([random_orientation(rng) for _ in range(4000)])
    # A unit vector's components are then even from -1 to 1: mean square 1/3. The
    # angle w of an even rotation has the density (1 - cos w) / pi: mean pi/2 + 2/pi.
    np.testing.assert_allclose(rotations.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose((rotations**2).mean(axis=0), 1 / 3, atol=0.02)
    traces = np.trace(rotations, axis1=1, axis2=2)
    angles = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    assert angles.mean() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.04)


def excite(imperfection, orientation, seed=0, b_factor=0.0, d_min=3.0):
    return excited_reflections(
        Crystal((42.0, 52.0, 88.0, 90.0, 90.0, 90.0)),
        imperfection,
        orientation,
        WAVELENGTH,
        d_min,
        b_factor,
        np.random.default_rng(seed),
    )


@pytest.fixture
def orientation():
    return random_orientation(np.random.default_rng(5))


def test_excited_reflections_are_near_the_ewald_sphere(orientation):
    # Domains of 2000 A alone: the width is 1/4000, cut at three widths.
    found = excite(Imperfection(2000.0, 0.0, 0.0), orientation)
    s0 = np.array([0, 0, 1 / WAVELENGTH])
    error = np.linalg.norm(s0 + found.s, axis=1) - 1 / WAVELENGTH
    points = lattice_points(Crystal((42.0, 52.0, 88.0, 90.0, 90.0, 90.0)), 3.0)
    turned = points @ orientation.T
    near = np.abs(np.linalg.norm(s0 + turned, axis=1) - 1 / WAVELENGTH) < 3 / 4000
    assert len(found.s) > 50
    assert np.abs(error).max() < 1.01 * 3 / 4000
    assert len(found.s) == pytest.approx(near.sum(), abs=3)


@pytest.mark.parametrize(
    "wider",
    [
        Imperfection(1000.0, 0.0, 0.0),
        Imperfection(4000.0, 0.002, 0.0),
        Imperfection(4000.0, 0.0, 0.01),
    ],
)
def test_imperfection_excites_more(orientation, wider):
    narrow = excite(Imperfection(4000.0, 0.0, 0.0), orientation)
    assert len(excite(wider, orientation).s) > 1.5 * len(narrow.s)


def test_intensities_fall_off_with_resolution(orientation):
    imperfection = Imperfection(300.0, 0.0, 0.0)
    bright = excite(imperfection, orientation)
    dim = excite(imperfection, orientation, b_factor=20.0)
    s2 = np.sum(bright.s**2, axis=1)
    np.testing.assert_allclose(
        dim.intensity / bright.intensity, np.exp(-10 * s2), rtol=1e-4
    )


def test_intensities_follow_wilson_statistics(orientation):
    # Of one domain size and B = 0, I = exponential x Gaussian partiality.
    found = excite(Imperfection(100.0, 0.0, 0.0), orientation, d_min=2.0)
    s2 = np.sum(found.s**2, axis=1)
    error = found.s[:, 2] + 0.5 * WAVELENGTH * s2
    full = found.intensity / np.exp(-0.5 * (error * 200) ** 2)
    assert len(full) > 2000
    assert full.mean() == pytest.approx(1, rel=0.1)
    assert (full**2).mean() == pytest.approx(2, rel=0.2)


def test_the_generator_decides_the_intensities(orientation):
    imperfection = Imperfection(2000.0, 0.0, 0.0)
    first, again, other = (excite(imperfection, orientation, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.intensity, again.intensity)
    assert not np.array_equal(first.intensity, other.intensity)
    np.testing.assert_array_equal(first.s, other.s)
