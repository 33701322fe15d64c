"""A stream of frames through a GPU: copied in batches while others are computed.

There are three buffers in pinned memory and three on the device, used in turn. While
the kernels work on one, the next is on the bus and the third is filled. Frames that do
not go into the batch, or do not fit the kernels, are classified on the CPU; the
predictions keep the order of the frames.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from dials_cnn_screen.architecture import BatchPipeline, NetworkOutput
from dials_cnn_screen.images.batch import Layout, common_layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor, prediction_of
from dials_cnn_screen.util.devices import use_card

logger = logging.getLogger("dials.cnn_screen")

# Measured with a trial on an H200: 16 frames of 4 megapixels fill the bus.
BATCH = 16
BUFFERS = 3


def classify_stream(
    model: Model,
    frames: Iterator[Frame],
    *,
    batch: int = BATCH,
    device: str | None = None,
) -> Iterator[Prediction | ValueError]:
    """The predictions for frames, in order; the error of one with nothing on it.

    Frames go into a batch if they have the shape, data type and beam centre of the
    first. Its mask is the pixels that are used on any of the first ``batch`` frames; on
    a frame of int32 or float32 some of them may be unused.

    Args:
        model: Whose architecture has kernels for its preparation.
        frames: Any number, read as they are needed.
        batch: Frames on the device at once.
        device: As of torch; None: the card of this process.
    """
    frames = iter(frames)
    first = list(itertools.islice(frames, batch))
    if not first:
        return
    stream = Stream(model, common_layout(first), batch, device or use_card())
    yield from stream.classify(itertools.chain(first, frames))


class Waiting(NamedTuple):
    """A frame that waits for its prediction.

    Attributes:
        frame: The frame.
        row: Its place in the batch; None: it is left to the CPU.
    """

    frame: Frame
    row: int | None


class Stream:
    """A model made ready for a stream of frames of one layout.

    Attributes:
        n_frames: Frames classified so far.
        n_left_to_cpu: Those of them that were not classified on the device.
    """

    def __init__(self, model: Model, layout: Layout, batch: int, device: str) -> None:
        self._layout, self._batch = layout, batch
        self._model = model
        pipeline = model.entry.batches(
            model.network, model.preparation, layout, batch, device
        )
        streams = Streams(device)
        self._buffers = [
            Buffer(layout, pipeline, batch, streams, device) for _ in range(BUFFERS)
        ]
        self.n_frames = self.n_left_to_cpu = 0

    def classify(self, frames: Iterator[Frame]) -> Iterator[Prediction | ValueError]:
        """The predictions for frames, in order, or the error of a frame."""
        free = deque(self._buffers)
        launched: deque[Buffer] = deque()
        filling = None
        for frame in frames:
            if filling is None:
                if not free:
                    free.append(launched[0])
                    yield from self._predictions(launched.popleft())
                filling = free.popleft()
            filling.add(frame)
            if filling.is_full:
                filling.launch()
                launched.append(filling)
                filling = None
        if filling is not None:
            filling.launch()
            launched.append(filling)
        while launched:
            yield from self._predictions(launched.popleft())
        if self.n_left_to_cpu:
            logger.info(
                "%d of %d frames did not fit the GPU's kernels and were classified on "
                "the CPU",
                self.n_left_to_cpu,
                self.n_frames,
            )

    @functools.cached_property
    def _on_cpu(self) -> Predictor:
        """What classifies the frames that do not fit."""
        return self._model.predictor("cpu")

    def _predictions(self, buffer: Buffer) -> Iterator[Prediction | ValueError]:
        """What became of the frames of a buffer; empties it."""
        for frame, output in buffer.outputs():
            self.n_frames += 1
            try:
                if output is not None:
                    yield prediction_of(
                        output,
                        self._model.calibration.temperature,
                        self._model.out_of_distribution,
                    )
                    continue
                self.n_left_to_cpu += 1
                yield self._on_cpu.predict(frame)
            except ValueError as error:
                yield error


class Streams:
    """The streams of a GPU, one that copies and one that computes; none on a CPU."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self._copying = torch.cuda.Stream(device) if self.on_gpu else None
        self._computing = torch.cuda.Stream(device) if self.on_gpu else None

    def copying(self) -> contextlib.AbstractContextManager:
        """Within, work is put on the stream that copies."""
        return torch.cuda.stream(self._copying)

    def computing(self) -> contextlib.AbstractContextManager:
        """Within, work is put on the stream that computes."""
        return torch.cuda.stream(self._computing)


class Buffer:
    """Room for a batch, in pinned memory and on the device, and the work on it."""

    def __init__(
        self,
        layout: Layout,
        pipeline: BatchPipeline,
        batch: int,
        streams: Streams,
        device: str,
    ) -> None:
        self._layout, self._pipeline, self._streams = layout, pipeline, streams
        shape, dtype = (batch, *layout.padded), getattr(torch, layout.dtype.name)
        self._host = torch.zeros(shape, dtype=dtype, pin_memory=streams.on_gpu)
        self._places = self._host.numpy()
        self._frames = torch.zeros(shape, dtype=dtype, device=device)
        self._waiting: list[Waiting] = []
        self._n = 0
        self._arrays: list[torch.Tensor] = []
        if streams.on_gpu:
            self._there, self._done = torch.cuda.Event(), torch.cuda.Event()
            with streams.computing():
                self._compute, self._tensors = capture(
                    lambda: pipeline.run(self._frames)
                )
            self._arrays = [
                torch.empty(t.shape, dtype=t.dtype, pin_memory=True)
                for t in self._tensors
            ]

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another frame.

        Frames left to the CPU take half a place each, so that they do not pile up.
        """
        return max(self._n, len(self._waiting) // 2) == len(self._places)

    def add(self, frame: Frame) -> None:
        """Put a frame in the batch, or leave it to the CPU."""
        row = None
        if self._layout.holds(frame):
            row, self._n = self._n, self._n + 1
            self._layout.store(frame, self._places[row])
        self._waiting.append(Waiting(frame, row))

    def launch(self) -> None:
        """Start to copy the frames and to compute."""
        if not self._streams.on_gpu:
            self._frames.copy_(self._host)
            self._arrays = [t.clone() for t in self._pipeline.run(self._frames)]
            return
        with self._streams.copying():
            self._frames.copy_(self._host, non_blocking=True)
            self._there.record()
        with self._streams.computing():
            self._there.wait()
            self._compute()
            for array, tensor in zip(self._arrays, self._tensors, strict=True):
                array.copy_(tensor, non_blocking=True)
            self._done.record()

    def outputs(self) -> Iterator[tuple[Frame, NetworkOutput | None]]:
        """Wait for the device; each frame, and what the network made of it or None."""
        if self._streams.on_gpu:
            self._done.synchronize()
        arrays = [array.numpy() for array in self._arrays]
        waiting, self._waiting, self._n = self._waiting, [], 0
        for frame, row in waiting:
            yield (
                frame,
                None if row is None else self._pipeline.output(arrays, row),
            )


def capture(
    work: Callable[[], tuple[torch.Tensor, ...]],
) -> tuple[Callable[[], None], tuple[torch.Tensor, ...]]:
    """A CUDA graph of work on the current stream, to start it at once; its result.

    Kernels are compiled before, since nothing else can be done while work is captured.
    """
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        tensors = work()
    return graph.replay, tensors
