"""One contrast for all images: equal pixel values are equally dark on each of them.

The viewer scales every image to its own pixels: a pixel P is black from
P = level / (0.4 brightness / 100) on, with level about the 90th percentile of the
image. An empty frame looks as full as a hit then. Here level is that of one image for
all of them, and the viewer's slider of brightness goes on to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dxtbx import flumpy

# Where the viewer puts its level on the way from white, 0, to black, 1, at a
# brightness of 1 (which it calls 100).
_SHADE = 0.4
# Bins of its histogram, which ends at twice the mean.
_BINS = 100


def display_level(panels: Sequence[Any]) -> float:
    """The level by which the viewer scales an image, in its pixels' unit.

    panels: flex arrays, one a panel. The same arithmetic as the viewer's
    (generic_flex_image in iotbx), by a histogram of the panels filled up with 0 to
    equal sizes, or it would not cancel. 0 where the viewer finds none.
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
    place = int(np.argmax(np.cumsum(counts) > 0.9 * total))
    return place * mean / (_BINS / 2)


def brightness_for(level: float, panels: Sequence[Any], brightness: float) -> float:
    """The brightness at which this image is as dark as one of this level.

    brightness: that of the other image, 1 for what the viewer calls 100.
    """
    own = display_level(panels)
    # Without a level of its own the viewer takes a pixel times brightness / 5.
    return brightness / level * (own if own > 0 else 5 * _SHADE)
