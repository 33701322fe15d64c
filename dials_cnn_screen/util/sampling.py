"""Some of many items, spread over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def choose_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, from the first to the last."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round()
    return [items[int(place)] for place in places]
