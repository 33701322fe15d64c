"""How the images are looked at: contrast, zoom, and where the beam is on the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class View:
    """What is kept from image to image; the usual one is that of section 3.3.1.

    zoom: a pixel's edge takes 2**zoom pixels of the screen. beam: where the beam is, as
    fractions of the window's width and height; there it was at the lower centre.
    brightness: the viewer's, from 1 to 1000; at 100
    the contrast is that of Fig. 6. levels: for each kind of detector the level of the
    image that brightness refers to, ADU (see contrast.py).
    """

    zoom: int = 1
    beam: tuple[float, float] = (0.5, 0.85)
    brightness: int = 100
    levels: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_notes(cls, notes: dict) -> View:
        """The view in the notes of a label file; the usual one if there is none."""
        try:
            stored = notes["view"]
            x, y = stored["beam"]
            view = cls(
                int(stored["zoom"]),
                (float(x), float(y)),
                int(stored["brightness"]),
                {str(name): float(x) for name, x in stored["levels"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()
        numbers = (*view.beam, *view.levels.values())
        possible = 1 <= view.brightness <= 1000 and all(map(math.isfinite, numbers))
        return view if possible else cls()

    def as_notes(self) -> dict:
        return {**asdict(self), "beam": list(self.beam)}
