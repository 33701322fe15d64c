"""Parameters of the programs, one .phil file for each, shared scopes included."""

from __future__ import annotations

from pathlib import Path

import libtbx.phil


def load_scope(program: str) -> libtbx.phil.scope:
    """The PHIL scope of a program, from the file of its name in this folder."""
    path = Path(__file__).parent / f"{program}.phil"
    return libtbx.phil.parse(file_name=str(path), process_includes=True)
