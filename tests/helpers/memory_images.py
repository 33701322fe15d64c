"""Images in memory, as dxtbx reads them."""

from __future__ import annotations

import numpy as np
from dxtbx import flumpy
from dxtbx.imageset import MemReader


class Image:
    """What a MemReader reads."""

    def __init__(self, *panels: np.ndarray) -> None:
        self._panels = tuple(flumpy.from_numpy(panel) for panel in panels)

    def get_raw_data(self) -> tuple:
        return self._panels


class Reader(MemReader):
    """Images that seem to come from a file each."""

    def copy(self, paths: list[str]) -> Reader:
        return self

    def paths(self) -> list[str]:
        return [f"image_{i}.cbf" for i in range(len(self))]
