"""One simulated shot: beam, background, crystals, photons, detector, and the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from dials_cnn_screen.labels.label import (
    HIT_SPOTS,
    MAYBE_SPOTS,
    Label,
    label_from_spots,
)
from dials_cnn_screen.simulation.background import (
    Background,
    Ring,
    expected_photons,
    transmission,
)
from dials_cnn_screen.simulation.detector import (
    Detector,
    blur,
    noise_profile,
    resolution_radius,
    share_charge,
    usable_pixels,
)
from dials_cnn_screen.simulation.electronics import efficiency, read_out, sound
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.powder import (
    brighten_grains,
    draw_grains,
    powder_rings,
)
from dials_cnn_screen.simulation.spots import (
    VISIBLE_SIGMA,
    Spots,
    background_counts,
    brighten,
    distinct,
    draw_spots,
    joined,
    no_spots,
    point_spread,
    scatter,
    significance,
)

# Hits have up to this many visible spots, drawn evenly in the logarithm.
_MOST_SPOTS = 500
# Two spots nearer to each other than this are one to the eye, pixels.
_SEPARATION = 2.0


@dataclass(frozen=True)
class Shot:
    """A simulated still and the truth about it.

    image: int32 (slow, fast), ADU. mask: bool (slow, fast), True = use, as users have
    it: what they can't know to be bad is used. visible: (m, 2) places (slow, fast) of
    the visible spots, pixels. wavelength: A. distance: mm.

    spots, photons, significance: all n spots of protein that fall on active pixels,
    seen or not: places (n, 2), drawn photons, and by how many standard deviations
    these stand out of the background; 0 under bad and masked pixels. Of spots that
    can't be told apart only the strongest is in visible. powder: (k, 2) places of
    spots of ice and salt that can be seen but do not count.

    kind: what the shot is: crystal, or the kind of miss: blank (no beam), salt, few
    spots, weak crystal (spots too weak to see), powder (smooth rings), spikes, solvent.
    """

    image: np.ndarray
    mask: np.ndarray
    visible: np.ndarray
    wavelength: float
    distance: float
    spots: np.ndarray
    photons: np.ndarray
    significance: np.ndarray
    powder: np.ndarray
    kind: str

    @property
    def label(self) -> Label:
        return label_from_spots(len(self.visible))


@dataclass(frozen=True)
class _Scene:
    """What spots of a shot are seen against: expected photons of each pixel."""

    experiment: Experiment
    background: Background
    expected: torch.Tensor
    low_gain: float

    def dimmed(self, spots: Spots) -> Spots:
        """Spots as the shadows let them through, without those in the dark."""
        centre = self.experiment.detector.beam_centre
        slow = torch.from_numpy(spots.slow - centre[0])
        fast = torch.from_numpy(spots.fast - centre[1])
        share = transmission(self.background, slow, fast).numpy().ravel()
        share = np.broadcast_to(share, len(spots))
        return spots.with_photons(spots.photons * share).chosen(share > 0.02)

    def counts(self, spots: Spots) -> np.ndarray:
        """Background under each spot, photons."""
        detector = self.experiment.detector
        level = self.expected.numpy()[spots.slow.astype(int), spots.fast.astype(int)]
        noise = _noise(spots, level, detector, self.low_gain)
        return background_counts(spots, level, noise, detector.psf, detector.sharing)

    def significance(self, spots: Spots, counts: np.ndarray) -> np.ndarray:
        good = sound(self.experiment.detector).numpy()
        good = good[spots.slow.astype(int), spots.fast.astype(int)]
        return np.where(good, significance(spots.photons, counts), 0.0)


def simulate_shot(experiment: Experiment, aim: Label, seed: int) -> Shot:
    """Draw one shot that is to be of class aim; the same seed gives the same shot.

    The number of visible spots is drawn first and the crystal's brightness follows, so
    that weak hits are as common as strong ones. Photons are then drawn, and the shot's
    label counts the spots whose drawn photons are visible: it can differ from aim.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    detector = experiment.detector
    wavelength = experiment.wavelength * rng.normal(1.0, 0.001)
    beam = aim is not Label.MISS or rng.random() >= experiment.beam_loss
    background = draw_background(experiment, rng) if beam else NO_BEAM
    powder = beam and rng.random() < experiment.scenery.powder_chance
    grainy = powder and rng.random() < experiment.scenery.powder_grains
    if powder and not grainy:
        background = _with_powder(background, experiment, rng)
    expected = efficiency(detector) * expected_photons(
        background, detector, experiment.distance, wavelength
    )
    scene = _Scene(experiment, background, expected, _low_gain(experiment, wavelength))

    n_visible = draw_visible_spots(aim, rng)
    # One miss in ten has a crystal that is too weak to see.
    crystal = beam and (n_visible > 0 or rng.random() < 0.1)
    spots, strength = no_spots(), np.empty(0)
    if crystal:
        spots, strength = _draw_protein(scene, wavelength, n_visible, rng)
    grains, grain_strength = no_spots(), np.empty(0)
    if grainy:
        grains, grain_strength = _draw_powder(scene, wavelength, rng)

    photons = torch.poisson(expected, generator=generator)
    if len(spots) or len(grains):
        photons += scatter(joined(spots, grains), detector.shape, rng)
    if detector.psf:
        photons = blur(photons, detector.psf)
    if detector.sharing:
        photons = share_charge(photons, detector.sharing)
    image = read_out(photons, detector, scene.low_gain, generator).numpy()
    seen = strength >= VISIBLE_SIGMA
    seen &= distinct(spots, strength, _separation(spots, detector))
    seen_grains = grain_strength >= VISIBLE_SIGMA
    return Shot(
        image=image,
        mask=usable_pixels(detector, image),
        visible=_places(spots)[seen],
        wavelength=wavelength,
        distance=experiment.distance,
        spots=_places(spots),
        photons=spots.photons,
        significance=strength,
        powder=_places(grains)[seen_grains],
        kind=_kind(scene, int(seen.sum()), crystal, powder, int(seen_grains.sum())),
    )


NO_BEAM = Background(rings=(), air=0.0, air_decay=1.0)


def draw_background(experiment: Experiment, rng: np.random.Generator) -> Background:
    """Solvent rings and air scatter, with jet spikes, Kapton and other shadows."""
    scenery = experiment.scenery
    brightness = rng.lognormal(0.0, scenery.fluctuation)
    peak = brightness * _log_uniform(experiment.ring, rng)
    rings = tuple(
        Ring(d * rng.normal(1.0, 0.015), width * rng.uniform(0.83, 1.2), peak)
        for d, width in scenery.solvent
    )
    parasitic = tuple(
        replace(ring, peak=brightness * ring.peak) for ring in scenery.parasitic
    )
    shadow = None
    if experiment.shadow is not None:
        direction, offset = scenery.kapton
        shadow = (
            rng.uniform(*experiment.shadow),
            rng.normal(direction, 0.03),
            offset + rng.uniform(-40, 40),
            rng.uniform(3, 12),
        )
    spikes = ()
    if rng.random() < experiment.spike:
        direction = rng.normal(scenery.jet, 0.15)
        spikes = tuple(
            (
                direction + rng.normal(0, 0.03),
                rng.uniform(0.002, 0.02),
                rng.uniform(15, 80),
                peak * rng.lognormal(2.0, 1.0),
            )
            for _ in range(rng.integers(1, 4))
        )
    return Background(
        rings=rings + parasitic,
        air=brightness * _log_uniform(experiment.air, rng),
        air_decay=rng.uniform(0.06, 0.2),
        shadow=shadow,
        spikes=spikes,
        texture=(rng.uniform(0, scenery.texture), rng.uniform(0, np.pi)),
        even=brightness * scenery.even,
        discs=scenery.discs,
        bars=scenery.bars,
    )


def draw_visible_spots(aim: Label, rng: np.random.Generator) -> int:
    """How many spots are to be visible: of misses, one in five has one to three."""
    if aim is Label.HIT:
        return int(np.exp(rng.uniform(np.log(HIT_SPOTS), np.log(_MOST_SPOTS))))
    if aim is Label.MAYBE:
        return int(rng.integers(MAYBE_SPOTS, HIT_SPOTS))
    return int(rng.integers(1, MAYBE_SPOTS)) if rng.random() < 0.2 else 0


def _draw_protein(
    scene: _Scene, wavelength: float, n_visible: int, rng: np.random.Generator
) -> tuple[Spots, np.ndarray]:
    """Spots with drawn photons, n_visible of them to be visible, and significance."""
    spots = scene.dimmed(draw_spots(scene.experiment, wavelength, rng))
    counts = scene.counts(spots)
    spots = brighten(spots, counts, n_visible, rng)
    spots = spots.with_photons(rng.poisson(spots.photons))
    return spots, scene.significance(spots, counts)


def _draw_powder(
    scene: _Scene, wavelength: float, rng: np.random.Generator
) -> tuple[Spots, np.ndarray]:
    """Spots of grains with drawn photons, and their significance."""
    grains = scene.dimmed(draw_grains(scene.experiment, wavelength, rng))
    counts = scene.counts(grains)
    grains = brighten_grains(grains, counts, rng)
    return grains, scene.significance(grains, counts)


def _with_powder(
    background: Background, experiment: Experiment, rng: np.random.Generator
) -> Background:
    level = background.air + sum(ring.peak for ring in background.rings)
    rings = powder_rings(experiment.scenery.powder, level, rng)
    return replace(background, rings=background.rings + rings)


def _noise(
    spots: Spots, level: np.ndarray, detector: Detector, low_gain: float
) -> np.ndarray:
    """Sd of the pixels around spots beyond the photons' own, in photons."""
    flaws = detector.flaws
    grain = flaws.pixel_gain * level
    if detector.counting:
        return grain
    radius = np.hypot(
        spots.slow - detector.beam_centre[0], spots.fast - detector.beam_centre[1]
    )
    coarser = np.where(radius < low_gain, detector.low_gain_steps, 1.0)
    noise = detector.dark_noise * coarser
    profile = noise_profile(detector).numpy()
    noise = noise * profile[spots.slow.astype(int), spots.fast.astype(int)]
    if flaws.switch:
        noise = noise * np.where(level > flaws.switch, flaws.switch_noise, 1.0)
    electronic = flaws.pixel_offset**2 + flaws.row_noise**2 + flaws.column_noise**2
    electronic += 1 / 12  # whole ADU
    return np.sqrt((noise**2 + electronic) / detector.gain**2 + grain**2)


def _separation(spots: Spots, detector: Detector) -> float:
    """What two spots must be apart to be told apart: half the height's full width."""
    if not len(spots):
        return _SEPARATION
    variance = np.median(np.sqrt(np.linalg.det(spots.covariance)))
    variance += point_spread(detector.psf, detector.sharing)
    return max(_SEPARATION, 2.35 * float(np.sqrt(variance)))


def _kind(
    scene: _Scene, n_visible: int, crystal: bool, powder: bool, n_grains: int
) -> str:
    if label_from_spots(n_visible) is not Label.MISS:
        return "crystal"
    kinds = {
        "blank": scene.background is NO_BEAM,
        "salt": n_grains > 0,
        "few spots": n_visible > 0,
        "weak crystal": crystal,
        "powder": powder,
        "spikes": bool(scene.background.spikes),
        "solvent": True,
    }
    return next(kind for kind, so in kinds.items() if so)


def _places(spots: Spots) -> np.ndarray:
    return np.stack([spots.slow, spots.fast], axis=1)


def _low_gain(experiment: Experiment, wavelength: float) -> float:
    """Radius of the pixels in low gain, pixels."""
    d = experiment.detector.low_gain_d_min
    if d is None:
        return 0.0
    return resolution_radius(experiment.detector, d, experiment.distance, wavelength)


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
