"""How common hits are in a run, and how many are lost, by its own probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.labels.label import Label

# Shares are found when no step changes one by more than this: by hand. The number of
# steps is limited, as they get small where images say little.
_PRECISION, _MOST_STEPS = 1e-6, 2000
# Fewer images say too little of how common hits are in a run: by hand.
_FEWEST = 50
# Digits of what is estimated.
_DIGITS = 4


@dataclass(frozen=True, eq=False)
class RunEstimate:
    """What is to be expected of the images of a run; estimate_run makes one.

    Attributes:
        shares: float64 (3,), of Hit, Maybe and Miss.
        loss: Of the Hits and Maybes the share that is not kept, to four digits; None
            where the probabilities are not by an eye: by the model's own it is too high
            for experts who see less.
    """

    shares: NDArray[np.float64]
    loss: float | None

    def shares_by_key(self) -> dict[str, float]:
        """The shares, to four digits, by the keys of the classes."""
        pairs = zip(Label, self.shares.tolist(), strict=True)
        return {label.key: round(share, _DIGITS) for label, share in pairs}


def estimate_run(
    probabilities: NDArray[np.float64],
    kept: NDArray[np.bool_],
    of_calibration: ArrayLike | None,
    by_eye: bool,
) -> RunEstimate | None:
    """What is to be expected of the n images of a run.

    Those of an eye are right for the run as they are, and the model's own for other
    shares of the classes.

    Args:
        probabilities: (n, 3), of Hit, Maybe and Miss.
        kept: (n,), which images are kept.
        of_calibration: As in estimate_shares; None: not known.
        by_eye: Whether the probabilities are by an eye.

    Returns:
        None for few images, and by the model's own where of_calibration is not known.
    """
    if len(kept) < _FEWEST:
        return None
    if by_eye:
        p_keep = probabilities[:, :2].sum(axis=1)
        total = float(p_keep.sum())
        lost = float(p_keep[~kept].sum())
        loss = round(lost / total, _DIGITS) if total else None
        return RunEstimate(probabilities.mean(axis=0), loss)
    if of_calibration is None:
        return None
    return RunEstimate(estimate_shares(probabilities, of_calibration), None)


def estimate_shares(
    probabilities: ArrayLike, of_calibration: ArrayLike
) -> NDArray[np.float64]:
    """Shares of the classes in a run, of greatest likelihood.

    Probabilities are right for images among which the classes are as common as in the
    model's calibration. Elsewhere those of an image are in proportion to p_k w_k / c_k;
    their mean over the run gives the shares w_k again, until nothing changes (Saerens,
    Latinne & Decaestecker, 2002, Neural Comput. 14, 21).

    Args:
        probabilities: (n, 3), of the model, n over 0.
        of_calibration: (3,), shares c of the classes among the images that the model
            was calibrated on, all over 0.

    Returns:
        float64 (3,), w, that add up to 1.
    """
    shares = np.asarray(of_calibration, np.float64)
    for _ in range(_MOST_STEPS):
        adapted = adapt(probabilities, shares, of_calibration).mean(axis=0)
        change = np.abs(adapted - shares).max()
        shares = adapted
        if change < _PRECISION:
            break
    return shares


def adapt(
    probabilities: ArrayLike, shares: ArrayLike, of_calibration: ArrayLike
) -> NDArray[np.float64]:
    """Probabilities where classes have other shares than in the model's calibration.

    Args:
        probabilities: (n, 3), of the model.
        shares: (3,), of the classes among these images.
        of_calibration: (3,), among those that the model was calibrated on.

    Returns:
        float64 (n, 3), rows that add up to 1.
    """
    p = np.asarray(probabilities) * (np.asarray(shares) / np.asarray(of_calibration))
    return p / p.sum(axis=1, keepdims=True)
