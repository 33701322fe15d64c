"""How images are displayed: contrast, zoom, and where the beam is on the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# At the largest zoom the beam may be as many windows away; by hand.
_FARTHEST_BEAM = 1000


@dataclass(frozen=True)
class View:
    """What stays from image to image; by default as in section 3.3.1.

    Attributes:
        zoom: The edge of an image pixel is 2**zoom screen pixels.
        beam: Where the beam is, as fractions of the window's width and height; by
            default at the lower centre.
        brightness: The viewer's, from 1 to 1000; 100 is the contrast of Fig. 6.
        levels: For each kind of detector the level of the image that the brightness
            refers to, ADU (see contrast.py).
    """

    zoom: int = 1
    beam: tuple[float, float] = (0.5, 0.85)
    brightness: int = 100
    levels: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Leave out levels that images can't be scaled by."""
        usable = {kind: level for kind, level in self.levels.items() if is_level(level)}
        object.__setattr__(self, "levels", usable)

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> View:
        """The view in the notes of a label file; the default if there is none."""
        try:
            stored = notes["view"]
            x, y = stored["beam"]
            view = cls(
                int(stored["zoom"]),
                (float(x), float(y)),
                int(stored["brightness"]),
                {str(kind): float(level) for kind, level in stored["levels"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return cls()
        # A NaN is not within limits either.
        valid = 1 <= view.brightness <= 1000 and all(
            abs(x) <= _FARTHEST_BEAM for x in view.beam
        )
        return view if valid else cls()

    def as_notes(self) -> dict[str, Any]:
        """The view as JSON."""
        return {**asdict(self), "beam": list(self.beam)}


def is_level(level: float) -> bool:
    """Whether images can be scaled by this level."""
    return math.isfinite(level) and level > 0
