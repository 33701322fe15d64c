"""The architectures, by the names that model files and ``architecture=`` have.

A new architecture is a folder with an entry like the others (architecture.py at the top
says what it holds), and a line here.
"""

from __future__ import annotations

from dials_cnn_screen.architecture import Architecture
from dials_cnn_screen.ke2018.architecture import FV5080, KE2018
from dials_cnn_screen.spots.architecture import SPOTS

ARCHITECTURES: dict[str, Architecture] = {
    entry.name: entry for entry in (SPOTS, KE2018, FV5080)
}


def find_architecture(name: str) -> Architecture:
    """The architecture of a name; ValueError where there is none."""
    if name not in ARCHITECTURES:
        raise ValueError(
            f"architecture '{name[:60]}' is not one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
