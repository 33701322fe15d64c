"""The paper's networks whole on a GPU: batches of frames to classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.architecture import NetworkOutput
from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.ke2018.network import Ke2018, fuse
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.preprocessing_cuda import PreprocessingKernels


class ImageBatches:
    """A BatchPipeline: preprocessing and network for b frames of one layout."""

    def __init__(
        self,
        network: Ke2018,
        preprocessing: Preprocessing,
        layout: Layout,
        batch: int,
        device: str,
    ) -> None:
        self._images = PreprocessingKernels(layout, preprocessing, batch, device)
        self._network = fuse(network).to(device)

    def stages(self, frames: torch.Tensor) -> list[tuple[str, Callable[[], None]]]:
        """The steps of run, by name, in order."""
        return [
            ("prepare", lambda: self._images.run(frames)),
            ("network", self._classify),
        ]

    def _classify(self) -> None:
        # By default cuDNN rounds to TF32, ten bits: probabilities would move.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            images = self._images.images.to(memory_format=torch.channels_last)
            self._features = self._network.features(images).flatten(start_dim=1)
            self._logits = self._network.classifier(self._features)

    def run(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits (b, 3), features (b, f) and fits (b,)."""
        for _, stage in self.stages(frames):
            stage()
        return self._logits, self._features, self._images.fits

    def output(self, arrays: Sequence[NDArray], i: int) -> NetworkOutput | None:
        """What the network makes of frame i; None: it did not fit the kernels."""
        logits, features, fits = (array[i] for array in arrays)
        if not fits:
            return None
        return NetworkOutput(np.array(logits), np.array(features), spots=None)
