"""How common hits are in a run, from its own probabilities and without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Shares are found when no step changes one by more than this: by hand. The number of
# steps is limited, as they get small where images say little.
_PRECISION, _MOST_STEPS = 1e-6, 2000


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
