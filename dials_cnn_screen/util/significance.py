"""How significant a count of photons is over its background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def poisson_significance(
    counts: ArrayLike, background: ArrayLike, excess: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Standard deviations by which counts exceed the background that is expected.

    The likelihood ratio of a Poisson count n over a known background b,
    sqrt(2 (n ln(n / b) - (n - b))): Cowan et al. (2011), Eur. Phys. J. C 71, 1554,
    equation 97. It holds for a few photons over almost none as for many over many.

    Args:
        counts: n, photons, signal and background together; not below the background.
        background: b, photons; positive. Of a shape that broadcasts with counts.
        excess: n - b where the caller knows it: for an excess that is small beside the
            background the subtraction would lose digits.

    Returns:
        Standard deviations, of the broadcast shape; 0 where n = b.
    """
    n, b = np.asarray(counts), np.asarray(background)
    if excess is None:
        excess, log_ratio = n - b, np.log(n / b)
    else:
        log_ratio = np.log1p(excess / b)
    return np.sqrt(2 * np.maximum(n * log_ratio - excess, 0))
