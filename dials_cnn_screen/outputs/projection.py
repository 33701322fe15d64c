"""Virtual powder: the maximum over images of a class, for each pixel.

Pixels are at hand only while images are classified. So that classifying is not slowed,
and a run that was resumed has the same picture, some images are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.sampling import choose_evenly
from dials_cnn_screen.util.workers import count_processes, map_on_workers

logger = logging.getLogger("dials.cnn_screen")

# Images of a class that are read again, at most; evenly along the run. By hand: rings
# are to be seen, and a thousand images take longer to classify than these to read.
MOST = 50


@dataclass(eq=False)
class Projection:
    """The maximum of some images; they are added one by one.

    Attributes:
        data: float32 (slow, fast), ADU: for each pixel the greatest value among the
            images that use it, -inf where none does.
        beam_centre: Of the first image, as in Frame.
        n_images: How many images; those of another shape are left out.
    """

    data: NDArray[np.float32]
    beam_centre: tuple[float, float]
    n_images: int = 0

    def add(self, data: NDArray, mask: NDArray[np.bool_], n_images: int = 1) -> None:
        """Add an image, or the maximum of several.

        Args:
            data: (slow, fast), ADU.
            mask: bool (slow, fast), True = use.
            n_images: How many images it is of.
        """
        if data.shape == self.data.shape:
            np.maximum(self.data, data, out=self.data, where=mask)
            self.n_images += n_images

    @property
    def frame(self) -> Frame:
        """The maximum as one image."""
        mask = np.isfinite(self.data)
        return Frame(np.where(mask, self.data, 0), mask, self.beam_centre)


def project(stills: Sequence[Still], nproc: Any) -> Projection | None:
    """The maximum of some of the stills, read again on nproc processes.

    Args:
        stills: Of one class, any number.
        nproc: As count_processes has it.

    Returns:
        The maximum; None where no image can be read.

    Raises:
        ChildProcessError: A process died, for instance for want of memory.
    """
    chosen = choose_evenly(stills, MOST)
    if not chosen:
        return None
    nproc = count_processes(nproc, len(chosen))
    # A process sends one array, not one of each image.
    shares = [chosen[first::nproc] for first in range(nproc)]
    joined: Projection | None = None
    for part in map_on_workers(_project_here, shares, nproc, Source, chunk=1):
        if joined is None:
            joined = part
        elif part is not None:
            joined.add(part.data, np.isfinite(part.data), part.n_images)
    return joined


def _project_here(source: Source, stills: Sequence[Still]) -> Projection | None:
    """The maximum of all of these stills that can be read."""
    joined: Projection | None = None
    for still in stills:
        try:
            frame = source.read(still)
        except Exception as error:  # whatever dxtbx or a file format may raise
            logger.warning("%s can't be read again: %s", still.name, one_line(error))
            continue
        if joined is None:
            empty = np.full(frame.data.shape, -np.inf, np.float32)
            joined = Projection(empty, frame.beam_centre)
        joined.add(frame.data, frame.mask)
    return joined
