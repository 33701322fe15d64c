"""Single frames through the kernels for batches: a Pipeline by a BatchPipeline.

What does not fit the kernels is left to the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from dials_cnn_screen.architecture import BatchPipeline, NetworkOutput, Pipeline
from dials_cnn_screen.images.batch import Layout, common_layout
from dials_cnn_screen.images.frame import Frame

logger = logging.getLogger("dials.cnn_screen")


class Launched(NamedTuple):
    """A frame on its way through a device.

    Attributes:
        frame: The frame.
        batches: What it goes through.
        tensors: What batches.run gave.
    """

    frame: Frame
    batches: BatchPipeline
    tensors: tuple[torch.Tensor, ...]


class SingleFrames:
    """A Pipeline by a BatchPipeline for one frame at a time.

    Attributes:
        n_left_to_cpu: How many frames did not fit the kernels.
    """

    def __init__(
        self, make: Callable[[Layout], BatchPipeline], cpu: Pipeline, device: str
    ) -> None:
        """make: Gives a BatchPipeline of one frame; cpu: for what does not fit."""
        self._make, self._cpu, self._device = make, cpu, device
        self._layout: Layout | None = None
        self.n_left_to_cpu = 0

    def prepare(self, frame: Frame) -> Launched:
        """Send the frame on its way."""
        layout = self._layout
        if layout is None or not layout.holds(frame):
            layout = self._lay_out(frame)
        layout.store(frame, self._host.numpy()[0])
        self._frames.copy_(self._host)
        return Launched(frame, self._batches, self._batches.run(self._frames))

    def _lay_out(self, frame: Frame) -> Layout:
        """Make ready for frames like this one, and those before if they are like it."""
        known = [frame]
        if self._layout is not None:
            before = Frame(frame.data, self._layout.mask, frame.beam_centre)
            known += [before] * (before.mask.shape == frame.mask.shape)
        self._layout = common_layout(known)
        dtype = getattr(torch, self._layout.dtype.name)
        self._host = torch.zeros(1, *self._layout.padded, dtype=dtype)
        self._frames = self._host.to(self._device)
        self._batches = self._make(self._layout)
        return self._layout

    def run(self, prepared: Launched) -> NetworkOutput:
        """Wait for what the network makes of it."""
        arrays = [tensor.cpu().numpy() for tensor in prepared.tensors]
        output = prepared.batches.output(arrays, 0)
        if output is not None:
            return output
        self.n_left_to_cpu += 1
        logger.debug("frame %s left to the CPU", np.shape(prepared.frame.data))
        return self._cpu.run(self._cpu.prepare(prepared.frame))
