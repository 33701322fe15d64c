"""One contrast for all images: equal pixel values are equally dark on each of them.

The viewer scales each image by its own pixels: a pixel P is black from
P = level / (0.4 brightness / 100) on, where level is about the 90th percentile of the
image. An empty image then looks as bright as a hit. Here one level, from several images
of the run, is used for all of them, and the viewer's brightness slider still works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from dxtbx import flumpy

from dials_cnn_screen.util.sampling import choose_evenly
from dials_cnn_screen.viewer.view import is_level

# From the viewer (generic_flex_image in iotbx): where it puts its level on the way from
# white, 0, to black, 1, at a brightness of 1 (which it calls 100).
_SHADE = 0.4
# Also from there: the bins of its histogram, which ends at twice the mean.
_BINS = 100

# The images of a detector from which its level is taken; by hand, as reading them takes
# a second or two.
_SAMPLED = 9
# Shots without beam may be many and overexposed ones are few, hence not the median; by
# hand.
_QUANTILE = 0.75
# A level that was stored is of another measurement beyond this factor; by hand.
_ABSURD = 20


def display_level(panels: Sequence[Any]) -> float:
    """The level by which the viewer scales an image, in the unit of its pixels.

    The same arithmetic as the viewer's (generic_flex_image in iotbx), with a histogram
    of the panels padded with 0 to equal sizes; otherwise it would not cancel.

    Args:
        panels: Flex arrays (slow, fast), one per panel.

    Returns:
        About the 90th percentile; 0 where the viewer finds no level.
    """
    arrays = [flumpy.to_numpy(panel) for panel in panels]
    edges = np.max([array.shape for array in arrays], axis=0)
    total = len(arrays) * int(np.prod(-(-edges // 8) * 8))
    mean = sum(float(array.sum(dtype=np.float64)) for array in arrays) / total
    if not np.isfinite(mean) or mean <= 0:
        return 0.0
    counts = np.zeros(_BINS, dtype=np.int64)
    for array in arrays:
        bins = (array * (_BINS / 2 / mean)).clip(0, _BINS - 1).astype(np.uint8)
        counts += np.bincount(bins.ravel(), minlength=_BINS)
    counts[0] += total - counts.sum()
    last = int(np.argmax(np.cumsum(counts) > 0.9 * total))
    return last * mean / (_BINS / 2)


def choose_sample(n: int) -> list[int]:
    """Indices of a few of n images, spread over the run with the first and the last."""
    return choose_evenly(range(n), _SAMPLED)


def level_of_run(levels: Iterable[float]) -> float | None:
    """The level for all images of a run, from those of some of them.

    Args:
        levels: As display_level gives them, ADU; those without a level are left out.

    Returns:
        The upper quartile, so that neither shots without beam nor a few overexposed
        ones set it; None where no image has a level.
    """
    usable = [level for level in levels if is_level(level)]
    return float(np.quantile(usable, _QUANTILE)) if usable else None


def keep_level(stored: float | None, of_run: float) -> float:
    """The level of an earlier session, or that of the run where it is far from it."""
    if stored is None or not of_run / _ABSURD <= stored <= of_run * _ABSURD:
        return of_run
    return stored


def brightness_for(level: float, panels: Sequence[Any], brightness: float) -> float:
    """The brightness at which an image is as dark as one of another level.

    Args:
        level: That of the other image, ADU.
        panels: Of this image, as in display_level.
        brightness: Of the other image; 1 is what the viewer calls 100.
    """
    own = display_level(panels)
    # Without a level of its own the viewer multiplies pixels by brightness / 5.
    return brightness / level * (own if own > 0 else 5 * _SHADE)
