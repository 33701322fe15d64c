"""Hits of which it is known how far their spots stand out, to bound losses by any eye.

A model's calibration hits are those by its own classes, of spots over MODEL_SIGMA. To
an expert's eye fewer frames are hits, and they are easier to tell from Misses. Of
simulated frames it is known which of them are hits to an eye that sees spots over any
threshold, and what the eye makes of the model's candidates: so an eye has calibration
hits too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label
from dials_cnn_screen.labels.probabilities import p_keep
from dials_cnn_screen.spots.eye import Eye

_PREFIX = "simulated_hits."
_NAMES = ("significance", "p_spot", "n_candidates", "own", "best")


@dataclass(frozen=True, eq=False)
class SimulatedHits:
    """Held-out frames that are Hit or Maybe by the model's own rule.

    Attributes:
        candidates: Of n frames.
        own: float64 (n, 3), the model's probabilities.
        best: float64 (n, 2), significance of the fourth and the tenth best spot of the
            simulation, standard deviations: MODEL_SIGMA or more, or 0 without one.

    Raises:
        ValueError: They are not of one length, or no such numbers.
    """

    candidates: list[CandidateScores]
    own: NDArray[np.float64]
    best: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.candidates)
        if self.own.shape != (n, len(Label)) or self.best.shape != (n, 2):
            raise ValueError("its simulated hits are not of one length")
        if not ((self.own >= 0) & (self.own <= 1)).all():
            raise ValueError("its simulated hits have no probabilities")
        if not (np.isfinite(self.best) & (self.best >= 0)).all():
            raise ValueError("its simulated hits have no significance of spots")

    def scores(self, eye: Eye) -> NDArray[np.float64]:
        """P(Hit) + P(Maybe) by an eye, float64 (n,).

        The eye looks at whole frames, of which these have many sizes.
        """
        everywhere = replace(eye, region_of_interest=None)
        return p_keep(everywhere.probabilities(self.candidates, self.own))

    def weights(self, eye: Eye, label: Label) -> NDArray[np.float64]:
        """How probably each is a hit to an eye, float64 (n,).

        Args:
            eye: The eye.
            label: Maybe: Hits and Maybes count; Hit: Hits alone.
        """
        column = {Label.MAYBE: 0, Label.HIT: 1}[label]
        return eye.sees(self.best[:, column])

    def arrays(self) -> dict[str, NDArray]:
        """As a model file has them, by name; half precision is enough."""
        values: tuple[NDArray, ...] = (
            _joined([frame.significance for frame in self.candidates]),
            _joined([frame.p_spot for frame in self.candidates]),
            np.array([len(frame.p_spot) for frame in self.candidates], np.int64),
            self.own.astype(np.float32),
            self.best.astype(np.float32),
        )
        return {_PREFIX + name: x for name, x in zip(_NAMES, values, strict=True)}


def best_spots(significance: NDArray[np.float64]) -> tuple[float, float]:
    """Significance of the fourth and the tenth best spot, 0 without one.

    significance: (n,), of the visible spots of a frame, the strongest first.
    """
    fourth, tenth = (
        float(significance[n - 1]) if len(significance) >= n else 0.0
        for n in (MAYBE_SPOTS, HIT_SPOTS)
    )
    return fourth, tenth


def pop_simulated_hits(arrays: dict[str, NDArray]) -> SimulatedHits | None:
    """Those of a model file, taken out of its arrays; None where it has none.

    Raises:
        ValueError, KeyError: They are damaged.
    """
    if _PREFIX + _NAMES[0] not in arrays:
        return None
    significance, p_spot, n, own, best = (arrays.pop(_PREFIX + x) for x in _NAMES)
    if n.ndim != 1 or (n < 0).any() or not n.sum() == significance.size == p_spot.size:
        raise ValueError("its simulated hits are not of one length")
    ends = np.cumsum(n)
    frames = [
        CandidateScores(s, p)
        for s, p in zip(
            np.split(significance.astype(np.float64).ravel(), ends)[:-1],
            np.split(p_spot.astype(np.float64).ravel(), ends)[:-1],
            strict=True,
        )
    ]
    return SimulatedHits(frames, own.astype(np.float64), best.astype(np.float64))


def _joined(values: list[NDArray[np.float64]]) -> NDArray[np.float16]:
    return np.concatenate([*values, np.empty(0)]).astype(np.float16)
