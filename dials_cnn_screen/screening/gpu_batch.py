"""Room for a batch of frames, in pinned memory and on a GPU, and the work on it.

Frames are there as they are, or images as a file has them: the bus then carries fewer
bytes, and the GPU makes the frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from dials_cnn_screen.architecture import BatchPipeline, NetworkOutput
from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.raw_frame import RawFrame


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


class Room(Protocol):
    """Where the frames of a batch are, on both sides of the bus."""

    def __len__(self) -> int:
        """How many there are."""

    def clear(self) -> None:
        """Make room for the next frames."""

    def add(self, frame: Frame | RawFrame) -> int | None:
        """Put in a frame that the layout holds; its row, or None: it does not fit."""

    def frame(self, row: int) -> Frame:
        """The frame in a row; ValueError for a damaged one."""

    def copy(self) -> None:
        """Start to copy the frames to the device."""

    def unpack(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames that were copied, and which of them are not right.

        (b, slow, fast), padded, of the layout's dtype; int32 (b,), not 0 for a frame
        that is left to the CPU.
        """


class PlainRoom:
    """Room for frames as they are."""

    def __init__(self, layout: Layout, batch: int, device: str) -> None:
        self._layout, self._n = layout, 0
        shape, dtype = (batch, *layout.padded), getattr(torch, layout.dtype.name)
        self._host = torch.zeros(shape, dtype=dtype, pin_memory=device != "cpu")
        self._places = self._host.numpy()
        self._frames = torch.zeros(shape, dtype=dtype, device=device)
        self._misfits = torch.zeros(batch, dtype=torch.int32, device=device)

    def __len__(self) -> int:
        """How many frames there are."""
        return self._n

    def clear(self) -> None:
        """Make room for the next frames."""
        self._n = 0

    def add(self, frame: Frame | RawFrame) -> int:
        """Put in a frame that the layout holds; its row."""
        assert isinstance(frame, Frame)  # the layout holds no other
        row, self._n = self._n, self._n + 1
        self._layout.store(frame, self._places[row])
        return row

    def frame(self, row: int) -> Frame:
        """The frame in a row, as the batch has it."""
        return self._layout.restore(self._places[row])

    def copy(self) -> None:
        """Start to copy the frames to the device."""
        self._frames.copy_(self._host, non_blocking=True)

    def unpack(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames; all are right."""
        return self._frames, self._misfits


class RawRoom:
    """Room for raw frames: as many bytes as images have that are not compressed."""

    def __init__(self, layout: Layout, batch: int, device: str) -> None:
        from dials_cnn_screen.images.raw_frame_cuda import RawFrameKernels

        assert layout.encoding is not None  # such frames have one
        encoding = layout.encoding
        self._rows: list[RawFrame] = []
        self._used = 0  # bytes
        shape = (batch, encoding.n_blocks + 1, 2)
        pin = device != "cpu"
        size = batch * encoding.n_bytes
        self._host = torch.zeros(size, dtype=torch.uint8, pin_memory=pin)
        self._host_places = torch.zeros(shape, dtype=torch.int32, pin_memory=pin)
        self._packed = torch.zeros(size, dtype=torch.uint8, device=device)
        self._places = torch.zeros(shape, dtype=torch.int32, device=device)
        self._kernels = RawFrameKernels(layout, batch, device)

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._rows)

    def clear(self) -> None:
        """Make room for the next frames."""
        self._rows.clear()
        self._used = 0
        self._host_places.zero_()

    def add(self, frame: Frame | RawFrame) -> int | None:
        """Put in a frame that the layout holds; its row, or None: it does not fit."""
        assert isinstance(frame, RawFrame)  # the layout holds no other
        row, end = len(self._rows), self._used + len(frame.data)
        places = self._host_places[row].numpy()
        if end > len(self._host) or not frame.find_blocks(places):
            places[:] = 0
            return None
        places[:, 0] += self._used
        self._host[self._used : end].numpy()[:] = np.frombuffer(frame.data, np.uint8)
        self._rows.append(frame)
        self._used = end
        return row

    def frame(self, row: int) -> Frame:
        """The frame in a row; ValueError for a damaged one."""
        return self._rows[row].frame()

    def copy(self) -> None:
        """Start to copy the frames to the device."""
        used = slice(self._used)
        self._packed[used].copy_(self._host[used], non_blocking=True)
        self._places.copy_(self._host_places, non_blocking=True)

    def stages(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps of unpack, by name, in order."""
        return self._kernels.stages(self._packed, self._places)

    def unpack(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames that are made of the images, and which of them are not right."""
        for _, stage in self.stages():
            stage()
        return self._kernels.frames, self._kernels.misfits


def check_pixels(
    layout: Layout, frames: Sequence[Frame | RawFrame], device: str
) -> None:
    """Make the frame of the first raw image that is not damaged, if there is one.

    Args:
        layout: Those that it does not hold are left out.
        frames: Any number.
        device: As of torch.

    Raises:
        RuntimeError: The device makes another one than the CPU.
    """
    for frame in frames:
        if isinstance(frame, RawFrame) and layout.holds(frame):
            with contextlib.suppress(ValueError):
                _compare(layout, frame, frame.frame(), device)
                return


def _compare(layout: Layout, frame: RawFrame, expected: Frame, device: str) -> None:
    """check_pixels of one image and its frame."""
    room = RawRoom(layout, 1, device)
    room.add(frame)
    room.copy()
    pixels, misfits = (tensor.cpu().numpy()[0] for tensor in room.unpack())
    found, used = layout.restore(pixels), expected.mask
    if not misfits and not (
        np.array_equal(found.mask, used)
        and np.array_equal(found.data[used], expected.data[used])
    ):
        raise RuntimeError("it reads other pixels from an image than the CPU")


class Buffer:
    """A batch of frames of one layout on its way through a device."""

    def __init__(
        self,
        layout: Layout,
        pipeline: BatchPipeline,
        batch: int,
        streams: Streams,
        device: str,
    ) -> None:
        self.layout, self._pipeline, self._streams = layout, pipeline, streams
        make_room = PlainRoom if layout.encoding is None else RawRoom
        self._room: Room = make_room(layout, batch, device)
        self._arrays: list[torch.Tensor] = []
        if streams.on_gpu:
            self._there, self._done = torch.cuda.Event(), torch.cuda.Event()
            with streams.computing():
                self._compute, self._tensors = capture(self._run)
            self._arrays = [
                torch.empty(t.shape, dtype=t.dtype, pin_memory=True)
                for t in self._tensors
            ]

    def _run(self) -> tuple[torch.Tensor, ...]:
        """Which frames are not right, and what the pipeline gives of all."""
        frames, misfits = self._room.unpack()
        return misfits, *self._pipeline.run(frames)

    def clear(self) -> None:
        """Make room for the next frames."""
        self._room.clear()

    def add(self, frame: Frame | RawFrame) -> int | None:
        """Put a frame into the batch if the layout holds it and it fits; its row."""
        return self._room.add(frame) if self.layout.holds(frame) else None

    def frame(self, row: int) -> Frame:
        """The frame in a row; ValueError for a damaged one."""
        return self._room.frame(row)

    def launch(self) -> None:
        """Start to copy the frames and to compute."""
        if not self._streams.on_gpu:
            self._room.copy()
            self._arrays = [t.clone() for t in self._run()]
            return
        with self._streams.copying():
            self._room.copy()
            self._there.record()
        with self._streams.computing():
            self._there.wait()
            self._compute()
            for array, tensor in zip(self._arrays, self._tensors, strict=True):
                array.copy_(tensor, non_blocking=True)
            self._done.record()

    def outputs(self) -> list[NetworkOutput | None]:
        """Wait for the device; what the network made of each row, None: of no fit."""
        if self._streams.on_gpu:
            self._done.synchronize()
        misfits, *arrays = (array.numpy() for array in self._arrays)
        return [
            None if misfits[row] else self._pipeline.output(arrays, row)
            for row in range(len(self._room))
        ]


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
