"""The range of the used pixels of a frame on one CPU core."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def used_range(data, mask):
    """Least and greatest of the used pixels of a frame.

    The same as ``data[mask].min(), data[mask].max()``, without a copy.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.

    Returns:
        Two numbers; (inf, -inf) where no pixel is used.
    """
    least, most = np.float32(np.inf), -np.float32(np.inf)
    for y in range(data.shape[0]):
        row, used = data[y], mask[y]  # (fast,)
        for x in range(len(row)):
            least = min(least, row[x] if used[x] else np.float32(np.inf))
            most = max(most, row[x] if used[x] else -np.float32(np.inf))
    return least, most
