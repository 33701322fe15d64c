"""The background of one shot, drawn from the distributions of its experiment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dials_cnn_screen.simulation.background import (
    Background,
    KaptonShadow,
    Ring,
    Spike,
)
from dials_cnn_screen.simulation.draws import log_uniform
from dials_cnn_screen.simulation.experiments import Experiment
from dials_cnn_screen.simulation.powder import powder_rings

NO_BEAM = Background(rings=(), air=0.0, air_decay=1.0)


def draw_background(experiment: Experiment, rng: np.random.Generator) -> Background:
    """Solvent rings and air scatter, with jet spikes, Kapton and other shadows.

    How far each differs from shot to shot is by hand.
    """
    parameters = experiment.background
    brightness = rng.lognormal(0.0, parameters.fluctuation)
    peak = brightness * log_uniform(*experiment.ring, rng)
    rings = tuple(
        Ring(d * rng.normal(1.0, 0.015), width * rng.uniform(0.83, 1.2), peak)
        for d, width in parameters.solvent
    )
    parasitic = tuple(
        replace(ring, peak=brightness * ring.peak) for ring in parameters.parasitic
    )
    return Background(
        rings=rings + parasitic,
        kapton=_draw_kapton(experiment, rng),
        spikes=_draw_spikes(experiment, peak, rng),
        air=brightness * log_uniform(*experiment.air, rng),
        air_decay=rng.uniform(0.06, 0.2),
        anisotropy=(rng.uniform(0, parameters.anisotropy), rng.uniform(0, np.pi)),
        uniform=brightness * parameters.uniform,
        discs=parameters.discs,
        bars=parameters.bars,
    )


def _draw_kapton(
    experiment: Experiment, rng: np.random.Generator
) -> KaptonShadow | None:
    if experiment.shadow is None:
        return None
    direction, offset = experiment.background.kapton
    return KaptonShadow(
        transmission=rng.uniform(*experiment.shadow),
        direction=rng.normal(direction, 0.03),
        offset=offset + rng.uniform(-40, 40),
        softness=rng.uniform(3, 12),
    )


def _draw_spikes(
    experiment: Experiment, peak: float, rng: np.random.Generator
) -> tuple[Spike, ...]:
    """One to three spikes or none; peak: photons per pixel of the solvent's ring."""
    if rng.random() >= experiment.spike:
        return ()
    direction = rng.normal(experiment.background.jet, 0.15)
    return tuple(
        Spike(
            direction=direction + rng.normal(0, 0.03),
            half_width=rng.uniform(0.002, 0.02),
            length=rng.uniform(15, 80),
            photons=peak * rng.lognormal(2.0, 1.0),
        )
        for _ in range(rng.integers(1, 4))
    )


def add_powder_rings(
    background: Background, experiment: Experiment, rng: np.random.Generator
) -> Background:
    """The background with smooth rings of the experiment's powder upon it."""
    level = background.air + sum(ring.peak for ring in background.rings)
    rings = powder_rings(experiment.background.powder, level, rng)
    return replace(background, rings=background.rings + rings)
