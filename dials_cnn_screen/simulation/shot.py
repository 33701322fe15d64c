"""One simulated shot: beam, background, crystals, photons, detector, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.labels.label import (
    HIT_SPOTS,
    MAYBE_SPOTS,
    Label,
    label_from_spots,
)
from dials_cnn_screen.simulation.background import (
    Background,
    expected_photons,
    transmission,
)
from dials_cnn_screen.simulation.detector import (
    Detector,
    good_pixels,
    noise_profile,
    pulse_map,
    resolution_radius,
    usable_pixels,
)
from dials_cnn_screen.simulation.draws import log_uniform
from dials_cnn_screen.simulation.electronics import (
    efficiency,
    excess_charge,
    photons_to_adu,
)
from dials_cnn_screen.simulation.experiments import VISIBLE_SIGMA, Experiment
from dials_cnn_screen.simulation.point_spread import (
    blur,
    point_spread_variance,
    share_charge,
)
from dials_cnn_screen.simulation.powder import brighten_grains, draw_grains
from dials_cnn_screen.simulation.shot_background import (
    NO_BEAM,
    add_powder_rings,
    draw_background,
)
from dials_cnn_screen.simulation.spots import (
    Spots,
    background_counts,
    brighten,
    distinct,
    draw_spots,
    join_spots,
    no_spots,
    place_photons,
    significance,
    threshold_photons,
)

# Grains of powder in a shot at most. Where there is a crystal to be seen they are
# fewer, so that it can be seen. By hand.
_MOST_GRAINS, _MOST_GRAINS_WITH_CRYSTAL = 5000, 800
# Share of the shots with grains that have a smooth ring under them: by hand.
_GRAINS_ON_RINGS = 0.5
# Two spots nearer to each other than this are one to the eye, pixels: by hand.
_SEPARATION = 2.0
# Spots behind shadows that let less than this through are left out: by hand.
_DARKEST_SHADOW = 0.02
# Share of the misses without a visible spot that has a crystal which is too weak to
# see: by hand.
_WEAK_CRYSTAL_SHARE = 0.1
# Standard deviation of the wavelength from shot to shot, over its mean: by hand, for a
# self-amplified source.
_WAVELENGTH_JITTER = 0.001


@dataclass(frozen=True)
class Shot:
    """A simulated still and the truth about it.

    Attributes:
        image: int32 (slow, fast), ADU.
        mask: bool (slow, fast), True = use, as users have it: pixels that they cannot
            know to be bad are used.
        visible: (m, 2), positions (slow, fast) of the visible spots, pixels; of spots
            that cannot be told apart only the strongest.
        wavelength: A.
        distance: mm.
        spots: (n, 2), positions of all spots of protein that fall on active pixels,
            visible or not.
        photons: (n,), their drawn photons.
        significance: (n,), standard deviations by which these stand out of the
            background; 0 on bad and masked pixels.
        powder: (k, 2), positions of spots of ice and salt that are visible but do not
            count.
        kind: crystal, or the kind of miss: blank (no beam), salt, few spots, weak
            crystal (spots too weak to see), powder (smooth rings), spikes, solvent.
    """

    image: NDArray[np.int32]
    mask: NDArray[np.bool_]
    visible: NDArray[np.float64]
    wavelength: float
    distance: float
    spots: NDArray[np.float64]
    photons: NDArray[np.number]
    significance: NDArray[np.float64]
    powder: NDArray[np.float64]
    kind: str

    @property
    def label(self) -> Label:
        """The class by the number of visible spots."""
        return label_from_spots(len(self.visible))


def simulate_shot(experiment: Experiment, aim: Label, seed: int) -> Shot:
    """Draw one shot; the same seed gives the same shot.

    The number of visible spots is drawn first and the brightness of the crystal
    follows, so that weak hits are as common as strong ones. Photons are then drawn, and
    the label of the shot counts the spots whose drawn photons are visible: it can
    differ from the aim.

    Args:
        experiment: Its ranges are drawn from.
        aim: The class that the shot is expected to have.
        seed: Of all draws.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    detector = experiment.detector
    wavelength = experiment.wavelength * rng.normal(1.0, _WAVELENGTH_JITTER)
    beam = aim is not Label.MISS or rng.random() >= experiment.beam_loss
    background = draw_background(experiment, rng) if beam else NO_BEAM
    powder = beam and rng.random() < experiment.background.powder_chance
    grainy = powder and rng.random() < experiment.background.powder_grains
    if powder and (not grainy or rng.random() < _GRAINS_ON_RINGS):
        background = add_powder_rings(background, experiment, rng)
    eye = experiment.eye
    sigma = eye.sigma * rng.lognormal(0.0, eye.spread) if eye.spread else eye.sigma
    exposure = _expose(experiment, background, wavelength, sigma)

    n_visible = draw_visible_spots(experiment, aim, rng)
    crystal = beam and (n_visible > 0 or rng.random() < _WEAK_CRYSTAL_SHARE)
    spots, strength = no_spots(), np.empty(0)
    if crystal:
        spots, strength = _draw_protein(exposure, wavelength, n_visible, rng)
    grains, grain_strength = no_spots(), np.empty(0)
    if grainy:
        most = _MOST_GRAINS_WITH_CRYSTAL if n_visible else _MOST_GRAINS
        grains, grain_strength = _draw_powder(exposure, wavelength, most, rng)

    photons = torch.poisson(exposure.expected, generator=generator)  # (slow, fast)
    if len(spots) or len(grains):
        photons += place_photons(join_spots(spots, grains), detector.shape, rng)
    if detector.psf:
        photons = blur(photons, detector.psf)
    if detector.sharing:
        photons = share_charge(photons, detector.sharing)
    photons += excess_charge(exposure.expected, detector, generator)
    adu = photons_to_adu(photons, detector, exposure.low_gain_radius, generator)
    image = adu.numpy()
    visible = (strength >= sigma) & exposure.looked_at(spots)
    visible &= distinct(spots, strength, _separation(spots, detector))
    visible_grains = grain_strength >= VISIBLE_SIGMA
    n_seen, n_grains = int(visible.sum()), int(visible_grains.sum())
    return Shot(
        image=image,
        mask=usable_pixels(detector, image),
        visible=_positions(spots)[visible],
        wavelength=wavelength,
        distance=experiment.distance,
        spots=_positions(spots),
        photons=spots.photons,
        significance=strength,
        powder=_positions(grains)[visible_grains],
        kind=_kind(background, n_seen, crystal, powder, n_grains),
    )


def draw_visible_spots(
    experiment: Experiment, aim: Label, rng: np.random.Generator
) -> int:
    """How many spots are expected visible; some misses have one to three."""
    if aim is Label.HIT:
        return int(log_uniform(*experiment.hit_spots, rng))
    if aim is Label.MAYBE:
        return int(rng.integers(MAYBE_SPOTS, HIT_SPOTS))
    return (
        int(rng.integers(1, MAYBE_SPOTS)) if rng.random() < experiment.few_spots else 0
    )


@dataclass(frozen=True)
class _Exposure:
    """What the spots of a shot are seen against.

    Attributes:
        experiment: Has the detector.
        background: Of the shot.
        expected: Photons of each pixel without spots, float32 (slow, fast).
        low_gain_radius: Radius of the pixels in low gain, pixels; 0 for none.
        eye_sigma: Standard deviations by which a spot that the expert sees stands out.
    """

    experiment: Experiment
    background: Background
    expected: torch.Tensor
    low_gain_radius: float
    eye_sigma: float

    def attenuate(self, spots: Spots) -> Spots:
        """Spots as the shadows let them through, without those in the dark."""
        centre = self.experiment.detector.beam_centre
        slow = torch.from_numpy(spots.slow - centre[0])
        fast = torch.from_numpy(spots.fast - centre[1])
        share = transmission(self.background, slow, fast).numpy().ravel()
        share = np.broadcast_to(share, len(spots))
        lit = spots.with_photons(spots.photons * share)
        return lit.select(share > _DARKEST_SHADOW)

    def looked_at(self, spots: Spots) -> NDArray[np.bool_]:
        """Which spots are where the expert looks, (n,)."""
        centre = self.experiment.detector.beam_centre
        eye = self.experiment.eye
        return eye.looks_at(spots.slow - centre[0], spots.fast - centre[1])

    def counts(self, spots: Spots) -> NDArray[np.float64]:
        """Background under each spot, (n,), photons."""
        detector = self.experiment.detector
        level = spots.on_pixels(self.expected.numpy())
        noise = _noise(spots, level, detector, self.low_gain_radius)
        return background_counts(spots, level, noise, detector.psf, detector.sharing)

    def significance(
        self, spots: Spots, counts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Of each spot over the counts (n,) under it, (n,); 0 on bad pixels."""
        good = spots.on_pixels(good_pixels(self.experiment.detector))
        return np.where(good, significance(spots.photons, counts), 0.0)


def _expose(
    experiment: Experiment, background: Background, wavelength: float, eye_sigma: float
) -> _Exposure:
    detector, distance = experiment.detector, experiment.distance
    expected = efficiency(detector) * expected_photons(
        background, detector, distance, wavelength
    )
    d = detector.low_gain_d_min
    radius = 0.0 if d is None else resolution_radius(detector, d, distance, wavelength)
    return _Exposure(experiment, background, expected, radius, eye_sigma)


def _draw_protein(
    exposure: _Exposure, wavelength: float, n_visible: int, rng: np.random.Generator
) -> tuple[Spots, NDArray[np.float64]]:
    """Spots with drawn photons, n_visible expected visible; their significance."""
    spots = exposure.attenuate(draw_spots(exposure.experiment, wavelength, rng))
    counts = exposure.counts(spots)
    threshold = threshold_photons(counts, exposure.eye_sigma)
    threshold[~exposure.looked_at(spots)] = np.inf
    spots = brighten(spots, threshold, n_visible, rng)
    least, most = exposure.experiment.overexposure
    if most > least and n_visible >= HIT_SPOTS:
        spots = spots.with_photons(spots.photons * log_uniform(least, most, rng))
    spots = spots.with_photons(rng.poisson(spots.photons))
    return spots, exposure.significance(spots, counts)


def _draw_powder(
    exposure: _Exposure, wavelength: float, most: int, rng: np.random.Generator
) -> tuple[Spots, NDArray[np.float64]]:
    """Spots of grains with drawn photons, and their significance."""
    grains = exposure.attenuate(draw_grains(exposure.experiment, wavelength, most, rng))
    counts = exposure.counts(grains)
    grains = brighten_grains(grains, counts, rng)
    return grains, exposure.significance(grains, counts)


def _noise(
    spots: Spots,
    level: NDArray[np.floating],
    detector: Detector,
    low_gain_radius: float,
) -> NDArray[np.floating]:
    """Standard deviation of pixels around spots beyond Poisson's, (n,), photons.

    level: (n,), expected photons per pixel there.
    """
    defects = detector.defects
    gain_noise = defects.pixel_gain * level
    if detector.counting:
        return gain_noise
    radius = np.hypot(
        spots.slow - detector.beam_centre[0], spots.fast - detector.beam_centre[1]
    )
    coarser = np.where(radius < low_gain_radius, detector.low_gain_step, 1.0)
    noise = detector.dark_noise * coarser
    noise = noise * spots.on_pixels(noise_profile(detector).numpy())
    if defects.gain_switch:
        switched = level > defects.gain_switch
        noise = noise * np.where(switched, defects.gain_switch_noise, 1.0)
    fixed = defects.pixel_pedestal**2 + defects.row_noise**2 + defects.column_noise**2
    fixed += 1 / 12  # whole ADU
    pulses = np.zeros(len(spots))
    if defects.pulses:
        # The mean square of an exponential distribution is twice its squared mean.
        rate = level * spots.on_pixels(pulse_map(detector).numpy())
        pulses = 2 * rate * defects.pulse_charge**2
    return np.sqrt((noise**2 + fixed) / detector.gain**2 + gain_noise**2 + pulses)


def _separation(spots: Spots, detector: Detector) -> float:
    """Distance from which two spots are told apart: full width at half maximum."""
    if not len(spots):
        return _SEPARATION
    variance = np.median(np.sqrt(np.linalg.det(spots.covariance)))
    variance += point_spread_variance(detector.psf, detector.sharing)
    return max(_SEPARATION, 2.35 * float(np.sqrt(variance)))


def _kind(
    background: Background, n_visible: int, crystal: bool, powder: bool, n_grains: int
) -> str:
    if label_from_spots(n_visible) is not Label.MISS:
        return "crystal"
    kinds = {
        "blank": background is NO_BEAM,
        "salt": n_grains > 0,
        "few spots": n_visible > 0,
        "weak crystal": crystal,
        "powder": powder,
        "spikes": bool(background.spikes),
        "solvent": True,
    }
    return next(kind for kind, applies in kinds.items() if applies)


def _positions(spots: Spots) -> NDArray[np.float64]:
    """(n, 2), slow and fast, pixels."""
    return np.stack([spots.slow, spots.fast], axis=1)
