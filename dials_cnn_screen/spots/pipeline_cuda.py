"""The default model whole on a GPU: batches of frames to classes and spots."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.architecture import NetworkOutput, score_candidates
from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.spots.candidates import CandidateSearch, strongest
from dials_cnn_screen.spots.candidates_cuda import CandidateKernels
from dials_cnn_screen.spots.network import EMPTY_LOGIT, SpotNetwork
from dials_cnn_screen.spots.network_cpu import ring_radii
from dials_cnn_screen.spots.rings import find_rings


class SpotBatches:
    """A BatchPipeline: candidates and network for b frames of one layout."""

    def __init__(
        self,
        network: SpotNetwork,
        search: CandidateSearch,
        layout: Layout,
        batch: int,
        device: str,
    ) -> None:
        self._beam_centre = layout.beam_centre
        self._candidates = CandidateKernels(layout, search, batch, device)
        self._network = copy.deepcopy(network).eval().to(device)

    def stages(self, frames: torch.Tensor) -> list[tuple[str, Callable[[], None]]]:
        """The steps of run, by name, in order."""
        return [*self._candidates.stages(frames), ("network", self._classify)]

    def _classify(self) -> None:
        with torch.inference_mode():
            self._output = self._network(self._candidates.batch)

    def run(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What output needs.

        Logits (b, 3), features (b, f), fits (b,), spot logits and places (b, k), and
        asinh of the significance of pixel and weighted sum of candidates (b, k, 2).
        """
        for _, stage in self.stages(frames):
            stage()
        output, candidates = self._output, self._candidates
        return (
            output.logits,
            output.features,
            candidates.fits,
            output.spot_logits,
            candidates.places,
            candidates.batch.scalars[..., :2],
        )

    def output(self, arrays: Sequence[NDArray], i: int) -> NetworkOutput | None:
        """What the network makes of frame i; None: it did not fit the kernels."""
        logits, features, fits, spot_logits, places, height = (a[i] for a in arrays)
        if not fits:
            return None
        # A logit of 0 is a chance of one half; that of an empty slot is far below.
        pixels = self._candidates.slow_fast(places)
        strength = strongest(*np.sinh(height).T)
        scores = score_candidates(strength, spot_logits, pixels)
        found = pixels[spot_logits > EMPTY_LOGIT]
        radius = ring_radii(*np.ascontiguousarray(found.T), *self._beam_centre)
        rings = [found[on_ring] for on_ring in find_rings(radius)]
        return NetworkOutput(
            np.array(logits),
            np.array(features),
            pixels[spot_logits > 0],
            scores,
            rings,
        )
