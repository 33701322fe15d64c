"""Powder rings of a run in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.screening.results import ScreeningResults

# Rings that are named, and those that are one: their spacings differ by this much, over
# themselves. By hand.
_NAMED, _SAME = 5, 0.01


def format_rings(results: ScreeningResults) -> str:
    """On how many images there are powder rings, and where; empty if none has any.

    The spacings that most images have are named, the most frequent first.
    """
    known = [image.rings for image in results.images if image.rings is not None]
    with_rings = [rings for rings in known if rings]
    if not with_rings:
        return ""
    common = find_common(np.concatenate(with_rings))
    named = ", ".join(f"{d:.2f} A ({n})" for d, n in common[:_NAMED])
    more = ", ..." if len(common) > _NAMED else ""
    return (
        f"Powder rings are on {len(with_rings)} of {len(known)} images. Spacings, with "
        f"the number of images in brackets: {named}{more}."
    )


def find_common(spacings: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Spacings that many of the n have, and how many; the most frequent first.

    Args:
        spacings: float64 (n,), A.
    """
    log = np.sort(np.log(spacings))
    common: list[tuple[float, int]] = []
    while len(log) and len(common) <= _NAMED:
        first = np.searchsorted(log, log - _SAME, "left")
        last = np.searchsorted(log, log + _SAME, "right")
        best = int(np.argmax(last - first))
        same = slice(int(first[best]), int(last[best]))
        common.append((float(np.exp(np.median(log[same]))), same.stop - same.start))
        log = np.delete(log, same)
    return common
