"""The noise of pixels where there are no spots: real images beside simulated shots.

Run as ``python -m dials_cnn_screen.studies.compare_noise SOURCE ...``. A SOURCE is an
image file that dxtbx reads, with ``:MASK`` after it for a mask of DIALS, one of the
five experiments, or a detector family: shots of random experiments on its detectors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch  # before DIALS: see threads.py
from numpy.typing import NDArray
from scipy import ndimage

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.simulation.detector_families import DETECTOR_FAMILIES
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.random_experiments import plan_random_experiments
from dials_cnn_screen.simulation.run import simulate_job
from dials_cnn_screen.studies.simulated_shots import as_frame

SHOTS = 4  # of each simulated source, by hand
SEED = 71_000
# Edge of the square that local means and standard deviations are of, pixels: by hand,
# for a small error of both.
_WINDOW = 21
# Touching pixels over so many standard deviations are a spot if they are so many; a
# square of this edge around each is left out. By hand.
_SPOT_SIGMA, _SPOT_SIZE, _SPOT_EDGE = 5.0, 3, 13
# A pixel this many standard deviations over or under its surroundings is bad: by hand.
_BAD_SIGMA = 20.0
# Rounds in which spots are left out and means taken again: by hand.
_ROUNDS = 3


@dataclass(frozen=True)
class Noise:
    """Of the spot-free pixels of one image.

    Attributes:
        level: Median of the local means, ADU.
        over_4: Share of the pixels over 4 local standard deviations.
        over_5: Over 5.
        over_6: Over 6.
        skewness: Of the deviations in units of the local standard deviation.
        variance_over_mean: Median of the local variance over the local mean, ADU.
        texture: The 90% quantile of that over its median.
        correlation: Of neighbouring pixels.
        bad: Number of pixels beyond 20 local standard deviations; in no other figure.
    """

    level: float
    over_4: float
    over_5: float
    over_6: float
    skewness: float
    variance_over_mean: float
    texture: float
    correlation: float
    bad: int


def measure_noise(frame: Frame) -> Noise:
    """Noise statistics of the pixels of a frame that are not near spots.

    Raises:
        ValueError: No pixel is left.
    """
    data = np.asarray(frame.data, dtype=np.float64)
    free, bad = frame.mask.copy(), np.zeros_like(frame.mask)
    for _ in range(_ROUNDS):
        mean, sd = _local(data, free)
        z = (data - mean) / np.maximum(sd, 1e-6)
        spots = _spots(z, frame.mask)
        bad = frame.mask & ~spots & (np.abs(z) > _BAD_SIGMA)
        free = frame.mask & ~spots & ~bad
    if not free.any():
        raise ValueError("all of the image is masked or near spots")
    mean, sd = _local(data, free)
    z = (data - mean) / np.maximum(sd, 1e-6)
    chosen = z[free]
    pairs = free[:, 1:] & free[:, :-1]
    ratio = (sd[free] ** 2 / np.maximum(mean[free], 1e-6))[mean[free] > 0]
    return Noise(
        level=float(np.median(mean[free])),
        over_4=float(np.mean(chosen > 4)),
        over_5=float(np.mean(chosen > 5)),
        over_6=float(np.mean(chosen > 6)),
        skewness=float(np.mean(chosen**3)),
        variance_over_mean=float(np.median(ratio)),
        texture=float(np.quantile(ratio, 0.9) / np.median(ratio)),
        correlation=float(np.mean((z[:, 1:] * z[:, :-1])[pairs])),
        bad=int(bad.sum()),
    )


def _local(
    data: NDArray[np.float64], free: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the free pixels around each."""
    weight = ndimage.uniform_filter(free.astype(np.float64), _WINDOW)
    weight = np.maximum(weight, 1e-9)
    middle = data[free].mean() if free.any() else 0.0
    value = np.where(free, data - middle, 0.0)
    mean = ndimage.uniform_filter(value, _WINDOW) / weight
    square = ndimage.uniform_filter(value**2, _WINDOW) / weight
    return mean + middle, np.sqrt(np.maximum(square - mean**2, 0.0))


def _spots(z: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is near groups of touching strong pixels, bool (slow, fast)."""
    groups, n = ndimage.label((z > _SPOT_SIGMA) & mask)
    sizes = np.bincount(groups.ravel(), minlength=n + 1)
    sizes[0] = 0
    return ndimage.maximum_filter((sizes >= _SPOT_SIZE)[groups], _SPOT_EDGE)


def frames(source: str) -> Iterator[Frame]:
    """The images of a file, or some simulated shots.

    Raises:
        ValueError: dxtbx can't read the file.
    """
    if source in EXPERIMENTS or source in DETECTOR_FAMILIES:
        yield from _simulated(source)
        return
    from dials_cnn_screen.evaluation.spotfinding import open_stills
    from dials_cnn_screen.images.read import read_frame

    path, _, mask = source.partition(":")
    for experiment in open_stills(path):
        if mask:
            experiment.imageset.external_lookup.mask.filename = mask
        for index in range(len(experiment.imageset)):
            yield read_frame(experiment.imageset, index)


def _simulated(source: str) -> Iterator[Frame]:
    if source in EXPERIMENTS:
        jobs = [(source, Label(i % len(Label)), SEED + i) for i in range(SHOTS)]
    else:
        # One shot of each random experiment.
        jobs = plan_random_experiments(8 * SHOTS, SEED, [source])[::8][:SHOTS]
    for job in jobs:
        yield as_frame(simulate_job(job), job[0])


def row(source: str, noise: Noise) -> str:
    """A row of the table."""
    values = dict(zip((f.name for f in fields(Noise)), astuple(noise), strict=True))
    cells = [
        f"{values['level']:.1f}",
        *(f"{values[name]:.1e}" for name in ("over_4", "over_5", "over_6")),
        f"{values['skewness']:.2f}",
        f"{values['variance_over_mean']:.2f}",
        f"{values['texture']:.1f}",
        f"{values['correlation']:.2f}",
        f"{values['bad']}",
    ]
    return f"| {' | '.join((source, *cells))} |"


def main(sources: list[str]) -> None:
    """Print the table."""
    print(
        "| image | level, ADU | over 4 sd | 5 sd | 6 sd | skewness | variance / mean "
        "| its 90% / 50% | neighbours' correlation | beyond 20 sd |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for source in sources:
        name = Path(source.partition(":")[0]).name
        for number, frame in enumerate(frames(source), start=1):
            print(row(f"{name} {number}", measure_noise(frame)), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])
