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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dials_cnn_screen.architecture import NetworkOutput
from dials_cnn_screen.images.batch import Layout, common_layout, raw_layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.raw_frame import RawFrame
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor, prediction_of
from dials_cnn_screen.screening.gpu_batch import (
    Buffer,
    Streams,
    check_pixels,
)
from dials_cnn_screen.util.devices import use_card
from dials_cnn_screen.util.errors import one_line

logger = logging.getLogger("dials.cnn_screen")

# Measured with a trial on an H200: 16 frames of 4 megapixels fill the bus.
BATCH = 16
BUFFERS = 3


class Classified(NamedTuple):
    """What became of a frame.

    Attributes:
        outcome: Its prediction; or why there is none: nothing is on the frame, or it
            could not be read.
        left_to_cpu: Whether it was classified on the CPU.
    """

    outcome: Prediction | Exception
    left_to_cpu: bool


class Group(NamedTuple):
    """Frames that follow each other, as many as a batch has at most.

    Attributes:
        buffer: Where some of them are; None: nowhere.
        frames: For each its row there; the frame itself, where it is left to the CPU;
            or why it could not be read.
    """

    buffer: Buffer | None
    frames: list[int | Frame | RawFrame | Exception]

    @property
    def left_out(self) -> list[Frame | RawFrame]:
        """The frames that are not in the buffer."""
        kinds = (Frame, RawFrame)
        return [frame for frame in self.frames if isinstance(frame, kinds)]

    @property
    def is_stored(self) -> bool:
        """Whether any frame is in the buffer."""
        return any(isinstance(frame, int) for frame in self.frames)


class GpuStream:
    """A model on a GPU that classifies frames in batches.

    Frames go into a batch if they have the shape, data type and beam centre of the
    first. Its mask is the pixels that are used on any of the first frames; on a frame
    of int32 or float32 some of them may be unused. Where as many frames as a batch has
    follow each other and none fits, as at a file of another detector, the buffers are
    made anew for frames like these.
    """

    def __init__(
        self, model: Model, *, batch: int | None = None, device: str | None = None
    ) -> None:
        """Nothing is on the device yet.

        Args:
            model: Whose architecture has kernels for its preparation.
            batch: Frames on the device at once; None: BATCH.
            device: As of torch; None: the card of this process.
        """
        self._model, self._batch = model, batch or BATCH
        self._device = device or use_card()
        self._free: deque[Buffer] = deque()
        self._failed = False

    def classify(
        self, frames: Iterator[Frame | RawFrame | Exception]
    ) -> Iterator[Classified]:
        """What becomes of frames, in order.

        Args:
            frames: Any number, taken when there is room for them; an error where one
                could not be read.
        """
        launched: deque[Group] = deque()
        while True:
            while launched and not self._free:
                yield from self._finish(launched.popleft())
            group = self._store(itertools.islice(frames, self._batch))
            if not (group.is_stored or self._failed) and (
                layout := _usual_layout(group.left_out)
            ):
                while launched:
                    yield from self._finish(launched.popleft())
                self._lay_out(layout, group.left_out)
                group = self._store(iter(group.frames))
            if not group.frames:
                break
            if group.buffer is not None:
                with self._failing():
                    group.buffer.launch()
            launched.append(group)
        self._release(group)
        while launched:
            yield from self._finish(launched.popleft())

    def _lay_out(self, layout: Layout, frames: Sequence[Frame | RawFrame]) -> None:
        """Make buffers for frames of a layout, and see whether they are right."""
        self._free.clear()
        with self._failing():
            check_pixels(layout, frames, self._device)
            pipeline = self._model.entry.batches(
                self._model.network,
                self._model.preparation,
                layout,
                self._batch,
                self._device,
            )
            streams = Streams(self._device)
            for _ in range(BUFFERS):
                self._free.append(
                    Buffer(layout, pipeline, self._batch, streams, self._device)
                )

    def _store(self, frames: Iterator[Any]) -> Group:
        """Frames in a free buffer, or beside it."""
        buffer = self._free.popleft() if self._free and not self._failed else None
        group = Group(buffer, [])
        for frame in frames:
            row = None
            if buffer is not None and not isinstance(frame, Exception):
                row = buffer.add(frame)
            group.frames.append(frame if row is None else row)
        return group

    def _release(self, group: Group) -> None:
        if group.buffer is not None:
            group.buffer.clear()
            self._free.append(group.buffer)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever a driver or a compiler may raise leaves the rest to the CPU."""
        try:
            yield
        except Exception as error:
            if not self._failed:
                logger.warning(
                    "The GPU failed (%s); the CPU is used from here on", one_line(error)
                )
            self._failed = True

    @functools.cached_property
    def _on_cpu(self) -> Predictor:
        """What classifies the frames that do not fit."""
        return self._model.predictor("cpu")

    def _finish(self, group: Group) -> Iterator[Classified]:
        """What became of the frames of a group; its buffer is free again."""
        outputs: list[NetworkOutput | None] = [None] * self._batch
        if group.buffer is not None and not self._failed:
            with self._failing():
                outputs = group.buffer.outputs()
        for frame in group.frames:
            if isinstance(frame, Exception):
                yield Classified(frame, left_to_cpu=False)
                continue
            if isinstance(frame, int) and (output := outputs[frame]) is not None:
                yield Classified(self._predict(output), left_to_cpu=False)
            else:
                yield self._classify_on_cpu(group.buffer, frame)
        self._release(group)

    def _predict(self, output: NetworkOutput) -> Prediction | Exception:
        """The prediction from what the network gives, or the error of the frame."""
        try:
            return prediction_of(
                output,
                self._model.calibration.temperature,
                self._model.out_of_distribution,
            )
        except ValueError as error:
            return error

    def _classify_on_cpu(
        self, buffer: Buffer | None, frame: int | Frame | RawFrame
    ) -> Classified:
        try:
            if isinstance(frame, int):
                assert buffer is not None  # that has the row
                frame = buffer.frame(frame)
            elif isinstance(frame, RawFrame):
                frame = frame.frame()
            return Classified(self._on_cpu.predict(frame), left_to_cpu=True)
        except Exception as error:  # of this frame alone, whatever it is
            return Classified(error, left_to_cpu=True)


def _usual_layout(frames: list[Frame | RawFrame]) -> Layout | None:
    """The layout of frames like the first; None where most of them are not."""
    raw = [frame for frame in frames if isinstance(frame, RawFrame)]
    plain = [frame for frame in frames if isinstance(frame, Frame)]
    if not frames:
        return None
    try:
        is_plain = isinstance(frames[0], Frame)
        layout = common_layout(plain) if is_plain else raw_layout(raw)
    except ValueError:  # of damaged frames
        return None
    return layout if 2 * sum(map(layout.holds, frames)) >= len(frames) else None
