"""Reciprocal lattice in the beam: which Bragg spots a still has, where and how bright.

Lengths of reciprocal space are in 1/A, s = 1/d. The beam runs along +z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# A reflection whose excitation error is beyond this many rocking widths is left out.
_CUTOFF = 3.0


@dataclass(frozen=True)
class Crystal:
    """What diffracts: cell (A, A, A, degrees, degrees, degrees) and lattice centring.

    centring: one of P, A, B, C, I, F.
    """

    cell: tuple[float, float, float, float, float, float]
    centring: str = "P"


@dataclass(frozen=True)
class Imperfection:
    """Why reflections have a width: domain size (A), mosaicity (radians), bandwidth.

    bandwidth is the standard deviation of the wavelength over its mean.
    """

    domain_size: float
    mosaicity: float
    bandwidth: float


@dataclass(frozen=True)
class Reflections:
    """Excited reflections of one lattice, each array of length n.

    s: (n, 3) scattering vectors in the laboratory, 1/A. intensity: relative.
    """

    s: np.ndarray
    intensity: np.ndarray


def orthogonalisation_matrix(cell: tuple[float, ...]) -> np.ndarray:
    """Columns are the real-space axes a, b, c in A: a along x, b in the xy plane."""
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
def lattice_points(crystal: Crystal, d_min: float) -> np.ndarray:
    """Scattering vectors (n, 3) float32, 1/A, of the unrotated crystal up to d_min."""
    reciprocal = np.linalg.inv(orthogonalisation_matrix(crystal.cell)).T
    limits = [int(length / d_min) for length in crystal.cell[:3]]
    h, k, l = np.meshgrid(*(np.arange(-n, n + 1) for n in limits), indexing="ij")
    hkl = np.stack([h.ravel(), k.ravel(), l.ravel()], axis=1)
    hkl = hkl[_present(hkl, crystal.centring)]
    s = (hkl @ reciprocal.T).astype(np.float32)
    length2 = np.einsum("ij,ij->i", s, s)
    return s[(length2 < d_min**-2) & (length2 > 0)]


def random_orientation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix drawn evenly from all orientations (a unit quaternion)."""
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
    orientation: np.ndarray,
    wavelength: float,
    d_min: float,
    b_factor: float,
    rng: np.random.Generator,
) -> Reflections:
    """Reflections near the Ewald sphere of a still, with partial intensities.

    The excitation error e = |s0 + s| - 1/wavelength weighs each by a Gaussian whose
    width adds domain size, mosaicity and bandwidth in quadrature. Full intensities
    follow Wilson statistics (acentric: exponential) with fall-off exp(-B s^2 / 2),
    b_factor in A^2.
    """
    s = lattice_points(crystal, d_min)
    # With the beam along z only one component is needed to find the excited few.
    along_beam = s @ orientation[2].astype(np.float32)
    length2 = np.einsum("ij,ij->i", s, s)
    error = along_beam + 0.5 * wavelength * length2
    width2 = (
        (0.5 / imperfection.domain_size) ** 2
        + imperfection.mosaicity**2 * length2
        + (0.5 * wavelength * length2 * imperfection.bandwidth) ** 2
    )
    excited = np.flatnonzero(error**2 < _CUTOFF**2 * width2)
    partiality = np.exp(-0.5 * error[excited] ** 2 / width2[excited])
    full = rng.exponential(size=excited.size)
    intensity = full * partiality * np.exp(-0.5 * b_factor * length2[excited])
    return Reflections(s[excited] @ orientation.T, intensity)


def _present(hkl: np.ndarray, centring: str) -> np.ndarray:
    h, k, l = hkl.T
    conditions = {
        "P": [],
        "A": [k + l],
        "B": [h + l],
        "C": [h + k],
        "I": [h + k + l],
        "F": [h + k, k + l],
    }
    if centring not in conditions:
        raise ValueError(f"centring '{centring}' is not one of {', '.join(conditions)}")
    present = np.ones(len(hkl), dtype=bool)
    for total in conditions[centring]:
        present &= total % 2 == 0
    return present
