"""Random experiments: any detector, cell, wavelength, distance and background.

A model that is trained on them meets detectors and samples of many kinds, so that it
works on those that it has never seen. All ranges are by hand, broader than most of what
is found at beamlines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.background import (
    BackgroundParameters,
    Bar,
    Disc,
    Ring,
)
from dials_cnn_screen.simulation.crystal import Crystal, orthogonalisation_matrix
from dials_cnn_screen.simulation.detector import Detector
from dials_cnn_screen.simulation.detector_families import (
    DETECTOR_FAMILIES,
    draw_detector,
)
from dials_cnn_screen.simulation.draws import Range, log_uniform
from dials_cnn_screen.simulation.experiments import EXPERIMENTS, Experiment
from dials_cnn_screen.simulation.powder import draw_powder

# Name of the experiment, class aimed at, seed.
Job = tuple[str, Label, int]

# Edges of a cell (A), wavelengths (A) and distances (mm): by hand, what is found at
# synchrotrons and FELs.
CELL_EDGES: Range = (20.0, 400.0)
WAVELENGTHS: Range = (0.7, 2.5)
DISTANCES: Range = (40.0, 1200.0)
# Reciprocal-lattice points of a crystal, about as many at least and at most: by hand,
# for enough spots, and for time and memory.
_FEWEST_POINTS, _MOST_POINTS = 8_000, 200_000
# Neighbouring spots along the longest axis are this far apart at least, pixels: by
# hand.
_LEAST_SPACING = 6.0
# Shots in a row that share an experiment, to save what is computed once for it: by
# hand.
_FEWEST_SHARED, _MOST_SHARED = 4, 8
# Shares of Hit, Maybe and Miss in a plan: by hand.
_SHARES = (0.38, 0.17, 0.45)
# Solvent has at most this share of what saturates a pixel: by hand.
_LARGEST_LEVEL = 0.05


def draw_experiment(
    rng: np.random.Generator, families: Sequence[str] = DETECTOR_FAMILIES
) -> Experiment:
    """A random experiment, which its name is enough to find again.

    Args:
        rng: Draws the name, which decides all else.
        families: Detector families to draw from.

    Raises:
        ValueError: There is no such detector family.
    """
    return find_experiment(_draw_name(rng, families))


def find_experiment(name: str) -> Experiment:
    """One of the five experiments, or the one that draw_experiment gave that name.

    Raises:
        ValueError: There is no experiment or no detector family of the name.
    """
    return EXPERIMENTS[name] if name in EXPERIMENTS else _find_random(name)


@lru_cache(maxsize=8)
def _find_random(name: str) -> Experiment:
    match = re.fullmatch(r"([a-z]+)-(\d+)", name)
    if not match:
        raise ValueError(f"no experiment '{name}': {', '.join(EXPERIMENTS)}")
    rng = np.random.default_rng(int(match[2]))
    return _draw(name, draw_detector(match[1], rng), rng)


def plan_random_experiments(
    n_shots: int, seed: int, families: Sequence[str] = DETECTOR_FAMILIES
) -> list[Job]:
    """Shots of many random experiments, four to eight of each in a row.

    Args:
        n_shots: In all.
        seed: Of the experiments and of the shots.
        families: Detector families; each experiment has a random one of them.
    """
    rng = np.random.default_rng(seed)
    jobs: list[Job] = []
    while len(jobs) < n_shots:
        name = _draw_name(rng, families)
        n = rng.integers(_FEWEST_SHARED, _MOST_SHARED + 1)
        aims = rng.choice(len(Label), size=n, p=_SHARES)
        seeds = rng.integers(2**63, size=n)
        jobs += [
            (name, Label(int(aim)), int(seed))
            for aim, seed in zip(aims, seeds, strict=True)
        ]
    return jobs[:n_shots]


def _draw(name: str, detector: Detector, rng: np.random.Generator) -> Experiment:
    """The experiment of a name, on its detector."""
    wavelength = log_uniform(*WAVELENGTHS, rng)
    d_corner = log_uniform(1.2, 5.0, rng)
    distance = _distance(detector, wavelength, d_corner)
    longest = wavelength * distance / (_LEAST_SPACING * detector.pixel_size)
    crystal = _draw_crystal(longest, rng)
    # With small cells the detector is moved near, to have spots at all.
    d_corner = min(d_corner, _d_with_points(crystal, _FEWEST_POINTS))
    distance = _distance(detector, wavelength, d_corner)
    two_theta = np.arctan(_farthest_corner(detector) / distance)
    d_corner = float(wavelength / (2 * np.sin(two_theta / 2)))
    photons = _draw_level(detector, rng)
    return Experiment(
        name=name,
        run="r0001",
        crystal=crystal,
        wavelength=wavelength,
        distance=distance,
        detector=detector,
        images=(1, 1, 1),
        d_min=max(d_corner, _d_with_points(crystal, _MOST_POINTS)),
        ring=_range_about(photons, 10.0, rng),
        air=_range_about(photons * log_uniform(0.1, 3.0, rng), 10.0, rng),
        lattices=((1.0,), (0.8, 0.2), (0.5, 0.3, 0.2))[rng.integers(3)],
        beam_loss=float(rng.choice([0.0, 0.05, 0.4])),
        spike=float(rng.choice([0.0, 0.2, 0.7])),
        shadow=(0.4, 0.95) if rng.random() < 0.2 else None,
        b_factor=_range_about(log_uniform(12, 120, rng), 3.0, rng),
        mosaicity=_range_about(log_uniform(2e-4, 4e-3, rng), 6.0, rng),
        domain_size=_range_about(log_uniform(600, 6000, rng), 3.0, rng),
        bandwidth=_draw_bandwidth(rng),
        focus=_range_about(log_uniform(0.12, 1.8, rng), 2.0, rng),
        streak=(0.0, rng.uniform(1, 6)) if rng.random() < 0.1 else (0.0, 0.0),
        background=_draw_background(detector, photons, rng),
        centre_error=_draw_centre_error(rng),
        overexposure=_draw_overexposure(rng),
    )


def _draw_overexposure(rng: np.random.Generator) -> Range:
    """In three experiments of ten some crystals saturate the detector."""
    return (1.0, log_uniform(3, 3000, rng)) if rng.random() < 0.3 else (1.0, 1.0)


def _draw_centre_error(rng: np.random.Generator) -> tuple[float, float]:
    """Most users' beam centres are right within a pixel; three in ten are not."""
    size = log_uniform(1, 8, rng) if rng.random() < 0.3 else 0.4
    return float(rng.normal(0, size)), float(rng.normal(0, size))


def _farthest_corner(detector: Detector) -> float:
    """From the beam to the farthest corner of the frame, mm."""
    farthest = [
        max(abs(centre), abs(n - centre))
        for centre, n in zip(detector.beam_centre, detector.shape, strict=True)
    ]
    return float(np.linalg.norm(farthest)) * detector.pixel_size


def _distance(detector: Detector, wavelength: float, d: float) -> float:
    """Where the farthest corner has the spacing d (A) or 2 theta is 60 degrees, mm."""
    two_theta = 2 * np.arcsin(wavelength / (2 * max(d, wavelength)))
    return float(np.clip(_farthest_corner(detector) / np.tan(two_theta), *DISTANCES))


def _draw_name(rng: np.random.Generator, families: Sequence[str]) -> str:
    return f"{rng.choice(list(families))}-{rng.integers(2**53)}"


def _range_about(middle: float, ratio: float, rng: np.random.Generator) -> Range:
    """A range about the middle whose ends differ by up to the ratio."""
    half = np.exp(0.5 * rng.uniform(0.1, 1.0) * np.log(ratio))
    return middle / half, middle * half


def _draw_bandwidth(rng: np.random.Generator) -> Range:
    """Monochromatic, self-amplified, or pink."""
    middle = (1e-4, 1.5e-3, 6e-3)[rng.choice(3, p=[0.35, 0.5, 0.15])]
    return _range_about(middle, 4.0, rng)


def _draw_level(detector: Detector, rng: np.random.Generator) -> float:
    """Photons per pixel of solvent scatter; counting detectors see fewer."""
    level = log_uniform(0.005, 60.0, rng)
    if not detector.counting:
        level = log_uniform(0.03, 400.0, rng)
    saturation = (detector.saturation - detector.pedestal) / detector.gain
    return min(level, _LARGEST_LEVEL * saturation)


def _draw_crystal(longest: float, rng: np.random.Generator) -> Crystal:
    """A cell of any crystal system, with no edge beyond the longest (A)."""
    low, high = CELL_EDGES
    high = min(high, max(longest, low * 1.5))
    a, b, c = (log_uniform(low, high, rng) for _ in range(3))
    alpha = beta = gamma = 90.0
    system = rng.choice(
        ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "hexagonal", "cubic"]
    )
    centrings = {"monoclinic": "PC", "orthorhombic": "PCIFAB", "tetragonal": "PI"}
    if system == "triclinic":
        alpha, beta, gamma = (rng.uniform(75, 105) for _ in range(3))
    elif system == "monoclinic":
        beta = rng.uniform(90, 120)
    elif system in ("tetragonal", "hexagonal", "cubic"):
        b = a
        c = a if system == "cubic" else c
        gamma = 120.0 if system == "hexagonal" else 90.0
    centring = rng.choice(
        list("PIF" if system == "cubic" else centrings.get(system, "P"))
    )
    return Crystal((a, b, c, alpha, beta, gamma), str(centring))


def _d_with_points(crystal: Crystal, n_points: int) -> float:
    """Spacing (A) down to which a primitive lattice of the cell has n_points points."""
    volume = abs(np.linalg.det(orthogonalisation_matrix(crystal.cell)))
    return float((4 / 3 * np.pi * volume / n_points) ** (1 / 3))


def _draw_background(
    detector: Detector, photons: float, rng: np.random.Generator
) -> BackgroundParameters:
    """What the shots show beside solvent and air.

    photons: of the solvent, per pixel.
    """
    # Water, with or without lipid; lipid; oils; anything; viscous media.
    solvents = [
        ((3.2, 0.042),),
        ((3.2, 0.042), (4.5, 0.02)),
        ((4.6, 0.012),),
        ((4.8, 0.03), (10.0, 0.02)),
        ((rng.uniform(3, 12), log_uniform(0.005, 0.06, rng)),),
        ((3.7, 0.05), (7.5, 0.03)),
    ]
    powder = draw_powder(rng) if rng.random() < 0.45 else ()
    return BackgroundParameters(
        solvent=solvents[rng.choice(6, p=[0.4, 0.1, 0.15, 0.1, 0.15, 0.1])],
        fluctuation=float(rng.choice([0.1, 0.4, 1.0])),
        parasitic=_parasitic(photons, rng) if rng.random() < 0.25 else (),
        uniform=photons * log_uniform(0.01, 1.0, rng) if rng.random() < 0.2 else 0.0,
        anisotropy=rng.uniform(0, 0.5) if rng.random() < 0.3 else 0.0,
        jet=rng.uniform(0, np.pi),
        kapton=(rng.uniform(0, 2 * np.pi), rng.uniform(-100, 400)),
        discs=_draw_discs(rng),
        bars=_draw_bars(detector, rng),
        powder=powder,
        powder_chance=rng.uniform(0.1, 0.9) if powder else 0.0,
        powder_grains=rng.uniform(0.3, 0.9),
    )


def _parasitic(photons: float, rng: np.random.Generator) -> tuple[Ring, ...]:
    """Sharp rings at low angle, of a window, an aperture or a polymer; a flare."""
    flare = Ring(
        d=1e4,
        width=log_uniform(2e-3, 2e-2, rng),
        peak=photons * log_uniform(3, 300, rng) * (rng.random() < 0.5),
        skew=1.0,
    )
    rings = [
        Ring(
            d=log_uniform(8, 60, rng),
            width=log_uniform(2e-4, 4e-3, rng),
            peak=photons * log_uniform(0.2, 10, rng),
            skew=rng.uniform(0.5, 2.0),
        )
        for _ in range(rng.integers(1, 4))
    ]
    return (flare, *rings)


def _draw_discs(rng: np.random.Generator) -> tuple[Disc, ...]:
    """A beam stop, and sometimes the round edge of something else."""
    discs = []
    if rng.random() < 0.5:
        centre = (rng.normal(0, 4), rng.normal(0, 4))
        softness = log_uniform(0.5, 6, rng)
        discs.append(Disc(centre, log_uniform(6, 50, rng), softness, 0.0))
    if rng.random() < 0.1:
        centre = (rng.uniform(-600, 600), rng.uniform(-600, 600))
        transmission = rng.uniform(0.0, 0.9)
        softness = log_uniform(1, 20, rng)
        discs.append(Disc(centre, rng.uniform(30, 250), softness, transmission))
    return tuple(discs)


def _draw_bars(detector: Detector, rng: np.random.Generator) -> tuple[Bar, ...]:
    """The beam stop's arm, the edge of the sample's surroundings, wires."""
    far = 2.0 * max(detector.shape)
    bars = []
    if rng.random() < 0.2:
        bars.append(_bar(rng, start=0.0, end=far, width=(2, 30), lowest=0.0))
    if rng.random() < 0.2:
        start = rng.uniform(0.15, 0.6) * max(detector.shape)
        bars.append(_bar(rng, start=start, end=far, width=(far, 2 * far), lowest=0.0))
    if rng.random() < 0.15:
        start = rng.uniform(-600, 300)
        end = start + rng.uniform(40, 500)
        bars.append(_bar(rng, start=start, end=end, width=(4, 120), lowest=0.1))
    return tuple(bars)


def _bar(
    rng: np.random.Generator,
    start: float,
    end: float,
    width: Range,
    lowest: float,
) -> Bar:
    """A bar in any direction; width: range of half its width, pixels."""
    # What starts at the beam has its middle line near it.
    offset = rng.normal(0, 3) if start == 0.0 else rng.normal(0, 150)
    return Bar(
        direction=rng.uniform(0, 2 * np.pi),
        start=start,
        end=end,
        offset=offset,
        half_width=log_uniform(*width, rng),
        softness=log_uniform(0.5, 12, rng),
        transmission=rng.uniform(lowest, 0.95),
    )
