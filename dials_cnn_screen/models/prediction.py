"""What a model says of one frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.architecture import CandidateScores
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import classify, p_keep
from dials_cnn_screen.spots.eye import Eye
from dials_cnn_screen.spots.out_of_distribution import is_out_of_distribution


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """What a model says of one frame; make_prediction makes one.

    Attributes:
        probabilities: float64 (3,), P(Hit), P(Maybe), P(Miss).
        p_keep: P(Hit) + P(Maybe).
        label: The class, by the rule of the paper (section 2.1).
        spots: int64 (n, 2), (slow, fast) indices of the pixels that are likelier a spot
            than not, the strongest first; None where the model looks for none.
        ood_score: Over 1 where the frame is out of the distribution of the model's
            training; None where that is not known.
        features: float32 (f,), what the network tells the classes by; None for a
            prediction that was read from a file.
        candidates: What may be spots, by which an Eye tells the classes; None where the
            model looks for none.
        rings: Of each powder ring the candidates on it, int64 (m, 2) as spots; None
            where the model looks for none, and for a prediction that was read from a
            file.
    """

    probabilities: NDArray[np.float64]
    p_keep: float
    label: Label
    spots: NDArray[np.int64] | None = None
    ood_score: float | None = None
    features: NDArray[np.float32] | None = None
    candidates: CandidateScores | None = None
    rings: list[NDArray[np.int64]] | None = None

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the frame is; None where that is not known."""
        return is_out_of_distribution(self.ood_score)

    @property
    def n_spots(self) -> int | None:
        """Number of spots; None where the model looks for none."""
        return None if self.spots is None else len(self.spots)

    def seen_by(self, eye: Eye) -> Prediction:
        """The model's own prediction with probabilities and class by what an eye sees.

        Spots, candidates and out-of-distribution score stay the model's.

        Raises:
            ValueError: The candidates are not known.
        """
        if self.candidates is None:
            raise ValueError(
                "the scores do not have the candidates of the images, which an eye "
                "counts; screen the images again, with a model that looks for spots"
            )
        p = eye.probabilities([self.candidates], self.probabilities[None])[0]
        return replace(
            self,
            probabilities=p,
            p_keep=float(p_keep(p)),
            label=Label(int(classify(p))),
        )


def make_prediction(
    probabilities: ArrayLike,
    spots: NDArray[np.int64] | None = None,
    ood_score: float | None = None,
    features: NDArray[np.float32] | None = None,
    candidates: CandidateScores | None = None,
    rings: list[NDArray[np.int64]] | None = None,
) -> Prediction:
    """A prediction of these probabilities, (3,) in the order of Label.

    Raises:
        ValueError: They are not three probabilities that add up to 1, or the
            out-of-distribution score is not finite.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(Label),) or not np.isfinite(p).all():
        raise ValueError(f"the probabilities {p.tolist()} are not finite")
    # Written to four digits they may be off by a little.
    if (p < 0).any() or abs(p.sum() - 1) > 1e-3:
        raise ValueError(f"the probabilities {p.tolist()} do not add up to 1")
    if ood_score is not None and not np.isfinite(ood_score):
        raise ValueError(f"the out-of-distribution score {ood_score} is not finite")
    label = Label(int(classify(p)))
    return Prediction(
        p, float(p_keep(p)), label, spots, ood_score, features, candidates, rings
    )
