"""Hits of which it is known how far their spots stand out, to bound losses by any eye.

A model's calibration hits are those by its own classes, of spots over MODEL_SIGMA. To
an expert's eye fewer frames are hits, and they are easier to tell from Misses. Of
simulated frames it is known which of them are hits to an eye that sees spots over any
threshold, and what the eye makes of the model's candidates: so an eye has calibration
hits too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label
from dials_cnn_screen.labels.probabilities import p_keep
from dials_cnn_screen.spots.eye import Eye

_PREFIX = "simulated_hits."


@dataclass(frozen=True, eq=False)
class SimulatedHits:
    """Held-out frames that are Hit or Maybe by the model's own rule; of makes them.

    The arrays are as a model file has them, half precision where that is enough: a
    model is read often, and its hits are seldom asked for.

    Attributes:
        significance, p_spot: float16 (k,), of the candidates of n frames, one frame
            after the other.
        n_candidates: int64 (n,), of each frame.
        own: float32 (n, 3), the model's probabilities.
        best: float32 (n, 2), significance of the fourth and the tenth best spot of the
            simulation, standard deviations: MODEL_SIGMA or more, or 0 without one.

    Raises:
        ValueError: They are not of one length, or no such numbers.
    """

    significance: NDArray[np.float16]
    p_spot: NDArray[np.float16]
    n_candidates: NDArray[np.int64]
    own: NDArray[np.float32]
    best: NDArray[np.float32]

    def __post_init__(self) -> None:
        numbers = self.n_candidates
        n, k = len(numbers), numbers.sum()
        if (
            numbers.shape != (n,)
            or (numbers < 0).any()
            or not self.significance.shape == self.p_spot.shape == (k,)
            or self.own.shape != (n, len(Label))
            or self.best.shape != (n, 2)
        ):
            raise ValueError("its simulated hits are not of one length")
        if not np.isfinite(self.significance).all():
            raise ValueError("the significance of a candidate is not finite")
        if not ((self.p_spot >= 0) & (self.p_spot <= 1)).all():
            raise ValueError("the probability of a candidate is not from 0 to 1")
        if not ((self.own >= 0) & (self.own <= 1)).all():
            raise ValueError("its simulated hits have no probabilities")
        if not (np.isfinite(self.best) & (self.best >= 0)).all():
            raise ValueError("its simulated hits have no significance of spots")

    @classmethod
    def of(
        cls,
        candidates: Sequence[CandidateScores],
        own: NDArray[np.float64],
        best: NDArray[np.float64],
    ) -> SimulatedHits:
        """Those of n frames with these candidates; own, best: (n, ...), as above."""
        return cls(
            _joined([frame.significance for frame in candidates]),
            _joined([frame.p_spot for frame in candidates]),
            np.array([len(frame.p_spot) for frame in candidates], np.int64),
            own.astype(np.float32),
            best.astype(np.float32),
        )

    @property
    def candidates(self) -> list[CandidateScores]:
        """Of each frame."""
        ends = np.cumsum(self.n_candidates)
        columns = (
            np.split(values.astype(np.float64), ends)[:-1]
            for values in (self.significance, self.p_spot)
        )
        return [CandidateScores(s, p) for s, p in zip(*columns, strict=True)]

    def scores(self, eye: Eye) -> NDArray[np.float64]:
        """P(Hit) + P(Maybe) by an eye, float64 (n,).

        The eye looks at whole frames, of which these have many sizes.
        """
        everywhere = replace(eye, region_of_interest=None)
        own = self.own.astype(np.float64)
        return p_keep(everywhere.probabilities(self.candidates, own))

    def weights(self, eye: Eye, label: Label) -> NDArray[np.float64]:
        """How probably each is a hit to an eye, float64 (n,).

        Args:
            eye: The eye.
            label: Maybe: Hits and Maybes count; Hit: Hits alone.
        """
        column = {Label.MAYBE: 0, Label.HIT: 1}[label]
        return eye.sees(self.best[:, column].astype(np.float64))

    def arrays(self) -> dict[str, NDArray]:
        """As a model file has them, by name."""
        return {_PREFIX + name: values for name, values in vars(self).items()}


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
    names = [field.name for field in fields(SimulatedHits)]
    if _PREFIX + names[0] not in arrays:
        return None
    return SimulatedHits(**{name: arrays.pop(_PREFIX + name) for name in names})


def _joined(values: list[NDArray[np.float64]]) -> NDArray[np.float16]:
    return np.concatenate([*values, np.empty(0)]).astype(np.float16)
