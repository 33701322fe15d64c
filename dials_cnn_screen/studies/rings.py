"""How right the powder rings are that are found, on shots with and without powder.

Every second shot has the rings of a powder, smooth or grainy, faint or strong; all may
have those of the experiment's windows, which are rings as well. A ring that is found is
right where there is one up to 4 pixels or 1.5% of its radius from it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dials_cnn_screen.images.frame import make_frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.detector import resolution_radius
from dials_cnn_screen.simulation.powder import draw_powder
from dials_cnn_screen.simulation.random_experiments import (
    find_experiment,
    plan_random_experiments,
)
from dials_cnn_screen.simulation.run import map_shots
from dials_cnn_screen.simulation.shot import simulate_shot
from dials_cnn_screen.util.intervals import format_percent

_PIXELS, _SHARE = 4.0, 0.015
# The flare round the beam is no ring, A.
_FLARE = 5e3
# Shots of a random experiment, by plan_random_experiments.
_MOST_SHOTS = 8


class Found(NamedTuple):
    """What was found on a shot.

    Attributes:
        powder: Whether it has powder.
        n_grains: Visible grains of it.
        right, wrong: Numbers of rings that are found.
    """

    powder: bool
    n_grains: int
    right: int
    wrong: int


def examine(job: tuple[str, int]) -> Found:
    """Simulate a shot of a random experiment, and find its rings.

    job: Name of the experiment; number of the shot: even ones have powder.
    """
    name, number = job
    rng = np.random.default_rng(number)
    experiment, powder = find_experiment(name), number % 2 == 0
    background = replace(
        experiment.background,
        powder=draw_powder(rng) if powder else (),
        powder_chance=float(powder),
    )
    experiment = replace(experiment, background=background)
    detector = experiment.detector
    aim = (Label.HIT, Label.MISS)[number // 2 % 2]
    shot = simulate_shot(experiment, aim, int(rng.integers(2**31)))
    spacings = [ring.d for ring in background.parasitic if ring.d < _FLARE]
    true = np.array(
        [
            resolution_radius(detector, d, shot.distance, shot.wavelength)
            for d in (*spacings, *background.powder)
        ]
    )  # pixels
    predictor = load_model("default").predictor("cpu")
    frame = make_frame(shot.image, shot.mask, detector.beam_centre)
    right = wrong = 0
    for pixels in predictor.predict(frame).rings or []:
        away = np.linalg.norm(pixels + 0.5 - np.array(detector.beam_centre), axis=1)
        radius = float(np.median(away))
        near = np.abs(true - radius) <= max(_PIXELS, _SHARE * radius)
        right, wrong = right + bool(near.any()), wrong + (not near.any())
    return Found(powder, len(shot.powder), right, wrong)


def main() -> None:
    """Print rates of frames and rings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=int, default=200, help="one an experiment")
    parser.add_argument("--seed", type=int, default=777, help="of the experiments")
    parser.add_argument("--nproc", type=int, default=1, help="processes")
    given = parser.parse_args()
    planned = plan_random_experiments(_MOST_SHOTS * given.shots, given.seed)
    names = list(dict.fromkeys(name for name, _, _ in planned))[: given.shots]
    jobs = [(name, number) for number, name in enumerate(names)]
    shots = list(map_shots(examine, jobs, given.nproc))
    with_powder = [shot for shot in shots if shot.powder]
    grainy = [shot for shot in shots if shot.n_grains >= 10]
    right, wrong = (sum(s.right for s in shots), sum(s.wrong for s in shots))
    for what, n in (
        ("shots with powder on which a ring is found", _found(with_powder)),
        ("shots with ten visible grains or more, the same", _found(grainy)),
        ("shots with a ring where there is none", [bool(s.wrong) for s in shots]),
    ):
        print(f"{what}: {sum(n)} of {len(n)}, {format_percent(sum(n), len(n))}%")
    rate = format_percent(right, right + wrong)
    print(f"rings that are found and are there: {right} of {right + wrong}, {rate}%")


def _found(shots: list[Found]) -> list[bool]:
    """On which a right ring is found."""
    return [bool(shot.right) for shot in shots]


if __name__ == "__main__":
    main()
