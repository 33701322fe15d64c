"""Reciprocal lattice in the beam: which Bragg spots a still has, where and how bright.

Lengths of reciprocal space are in 1/A, s = 1/d. The beam runs along +z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# A reflection whose excitation error is beyond this many rocking widths is left out:
# by hand; its partiality would be 1% or less.
_CUTOFF = 3.0
# Sums of Miller indices, as weights of h, k and l, that must be even.
_CENTRINGS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "P": (),
    "A": ((0, 1, 1),),
    "B": ((1, 0, 1),),
    "C": ((1, 1, 0),),
    "I": ((1, 1, 1),),
    "F": ((1, 1, 0), (0, 1, 1)),
}


@dataclass(frozen=True)
class Crystal:
    """What diffracts.

    Attributes:
        cell: a, b, c in A; alpha, beta, gamma in degrees.
        centring: Of the lattice, one of P, A, B, C, I, F.
    """

    cell: tuple[float, float, float, float, float, float]
    centring: str = "P"


@dataclass(frozen=True)
class Imperfection:
    """Why reflections have a width.

    Attributes:
        domain_size: A.
        mosaicity: Radians.
        bandwidth: Standard deviation of the wavelength over its mean.
    """

    domain_size: float
    mosaicity: float
    bandwidth: float


@dataclass(frozen=True)
class Reflections:
    """The excited reflections of one lattice.

    Attributes:
        s: (n, 3), scattering vectors in the laboratory, 1/A.
        intensity: (n,), relative.
    """

    s: NDArray[np.floating]
    intensity: NDArray[np.float64]


def orthogonalisation_matrix(cell: tuple[float, ...]) -> NDArray[np.float64]:
    """Real-space axes of the unrotated crystal, a along x, b in the xy plane.

    The convention of the Protein Data Bank.

    Args:
        cell: As of Crystal.

    Returns:
        (3, 3), A; the columns are a, b and c.
    """
    a, b, c = cell[:3]
    ca, cb, cg = (math.cos(math.radians(x)) for x in cell[3:])
    sg = math.sqrt(1 - cg * cg)
    volume = math.sqrt(1 - ca * ca - cb * cb - cg * cg + 2 * ca * cb * cg)
    return np.array(
        [
            [a, b * cg, c * cb],
            [0, b * sg, c * (ca - cb * cg) / sg],
            [0, 0, c * volume / sg],
        ]
    )


@lru_cache(maxsize=8)
def lattice_points(crystal: Crystal, d_min: float) -> NDArray[np.float32]:
    """Scattering vectors of the unrotated crystal.

    Args:
        crystal: Its systematic absences are left out.
        d_min: Resolution limit, A.

    Returns:
        (n, 3), 1/A.

    Raises:
        ValueError: The centring is not one of those of Crystal.
    """
    reciprocal = np.linalg.inv(orthogonalisation_matrix(crystal.cell)).T
    limits = [int(length / d_min) for length in crystal.cell[:3]]
    h, k, l = np.meshgrid(*(np.arange(-n, n + 1) for n in limits), indexing="ij")
    hkl = np.stack([h.ravel(), k.ravel(), l.ravel()], axis=1)  # (all, 3)
    hkl = hkl[_is_present(hkl, crystal.centring)]
    s = (hkl @ reciprocal.T).astype(np.float32)
    length2 = np.einsum("ij,ij->i", s, s)
    return s[(length2 < d_min**-2) & (length2 > 0)]


def random_orientation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation matrix drawn evenly from all orientations, (3, 3).

    That of a unit quaternion, four normal numbers over their norm (Muller, 1959,
    Commun. ACM 2, 19).
    """
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def excited_reflections(
    crystal: Crystal,
    imperfection: Imperfection,
    orientation: NDArray[np.float64],
    wavelength: float,
    d_min: float,
    b_factor: float,
    rng: np.random.Generator,
) -> Reflections:
    """Reflections near the Ewald sphere of a still, with partial intensities.

    The excitation error |s0 + s| - 1 / wavelength, to first order, weighs each by a
    Gaussian whose width adds domain size, mosaicity and bandwidth in quadrature, a
    simple form of the model of Sauter et al. (2014), Acta Cryst. D70, 3299. Full
    intensities are exponentially distributed (acentric; Wilson, 1949, Acta Cryst. 2,
    318) and fall off with exp(-B s^2 / 2).

    Args:
        crystal: What diffracts.
        imperfection: Why reflections have a width.
        orientation: (3, 3), rotates the crystal into the laboratory.
        wavelength: A.
        d_min: Resolution limit, A.
        b_factor: B, A^2.
        rng: Draws the full intensities.
    """
    s = lattice_points(crystal, d_min)  # (n, 3)
    # With the beam along z only one component is needed to find the excited few.
    along_beam = s @ orientation[2].astype(np.float32)  # (n,)
    length2 = np.einsum("ij,ij->i", s, s)
    error = along_beam + 0.5 * wavelength * length2
    width2 = (
        (0.5 / imperfection.domain_size) ** 2
        + imperfection.mosaicity**2 * length2
        + (0.5 * wavelength * length2 * imperfection.bandwidth) ** 2
    )
    excited = np.flatnonzero(error**2 < _CUTOFF**2 * width2)  # (excited,)
    partiality = np.exp(-0.5 * error[excited] ** 2 / width2[excited])
    full = rng.exponential(size=excited.size)
    intensity = full * partiality * np.exp(-0.5 * b_factor * length2[excited])
    return Reflections(s[excited] @ orientation.T, intensity)


def _is_present(hkl: NDArray[np.integer], centring: str) -> NDArray[np.bool_]:
    """Which reflections (n, 3) the centring leaves, bool (n,)."""
    if centring not in _CENTRINGS:
        raise ValueError(f"centring '{centring}' is not one of {', '.join(_CENTRINGS)}")
    present = np.ones(len(hkl), dtype=bool)
    for weights in _CENTRINGS[centring]:
        present &= (hkl @ np.array(weights)) % 2 == 0
    return present
