"""The candidates of a batch of frames on a GPU: candidates.find_candidates in Triton.

    background_cuda    the background of blocks: the first pass over all pixels
    spread_cuda        the standard deviation of weighted sums
    flags_cuda         pixels that may be maxima: the second pass, and the last
    maxima_cuda        which of them are, and the strongest
    features_cuda      their patches and features

``fits`` tells which frames fit: others have more maxima than there is room for, or are
flat. Their other results are of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots.background import LEAST_WHOLE
from dials_cnn_screen.spots.background_cuda import BackgroundKernels, counters_room
from dials_cnn_screen.spots.features import N_FRAME, N_SCALARS, RING_OFFSETS
from dials_cnn_screen.spots.features_cuda import (
    OFFSETS,
    SLOTS,
    centre_kernel,
    describe_kernel,
)
from dials_cnn_screen.spots.flags_cuda import compact_kernel, flag_kernel
from dials_cnn_screen.spots.maxima_cuda import (
    choose_kernel,
    maxima_kernel,
    ring_kernel,
    strong_kernel,
)
from dials_cnn_screen.spots.network import CandidateBatch
from dials_cnn_screen.spots.spread_cuda import sample_kernel, spread_kernel
from dials_cnn_screen.util.kernels_cuda import BLOCK, INTERPRETED

# Room for flagged and for strong pixels of a frame.
FLAGGED, STRONG = 65536, 16384
# Elements of one program, and how many values are read at once. By hand, with a trial
# on an H200.
_FLAG_THREADS = 128
_SAMPLE_THREADS = 128
_COMPACT_THREADS = 1024
_STRONG_THREADS = 64
_MAXIMA_THREADS = 16
_RING_THREADS = 64
_CHUNK, _KEYS = 4096, 2048
# Programs in all that go over lists of unknown length.
_PROGRAMS = 8 if INTERPRETED else 4096


class CandidateKernels:
    """The kernels with all that they need for batches of b frames of one layout.

    Attributes:
        batch: What the network takes, of the frames of the last run.
        places: int32 (b, most), y * width + x of candidates on the padded frame, -1
            in an empty slot.
        fits: bool (b,), whether all that was found is right.
    """

    def __init__(
        self, layout: Layout, search: reference.CandidateSearch, batch: int, device: str
    ) -> None:
        mask = layout.padded_mask
        rows, columns = (n // BLOCK for n in mask.shape)
        self._size = {"rows": rows, "columns": columns}
        self._layout, self._search, self._n = layout, search, batch
        self._trusted = layout.trusted is not None
        self._range = layout.trusted or (0.0, 0.0)
        self._background = BackgroundKernels(mask, layout.trusted, batch, device)

        def on_device(values: Any, dtype: type) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, dtype)).to(device)

        def new(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._mask = on_device(mask, np.uint8)
        bits = _bits_of_groups(mask)
        self._bits, self._kinds = (
            on_device(bits, np.uint8),
            on_device(_kinds(bits), np.int32),
        )
        self._beam_centre = on_device(layout.beam_centre, np.float64)
        self._depths = on_device(reference.DEPTHS, np.float32)
        self._levels = on_device(np.multiply(reference.LEVELS, 1e4), np.float32)
        self._least_whole = torch.full((batch,), LEAST_WHOLE, device=device)
        step_y, step_x = (s.step for s in reference.SAMPLE)
        self._across = len(range(1, mask.shape[1], step_x))
        self._sample = new(batch, len(range(1, mask.shape[0], step_y)) * self._across)
        self._spread = new(batch)
        self._words = new(batch, (rows + 1) * columns * 4, dtype=torch.int64)
        self._flagged = new(batch, FLAGGED, dtype=torch.int32)
        self._strong, self._maxima = new(2, batch, STRONG, dtype=torch.int64)
        self._chosen = new(batch, SLOTS, dtype=torch.int64)
        self._n_chosen = new(batch, dtype=torch.int32)
        self._offsets = on_device(RING_OFFSETS, np.float64)
        self._pairs = new(batch, OFFSETS, dtype=torch.int64)
        # One array, so that one fill clears all: used, short, varied (background_cuda);
        # sampled, flagged, strong, maxima, kept; low.
        self._room = counters_room(batch)
        self._counters = new(8 + len(reference.DEPTHS), self._room, dtype=torch.int32)
        self.batch = CandidateBatch(
            new(batch, search.most, 2, reference.PATCH, reference.PATCH),
            new(batch, search.most, N_SCALARS),
            new(batch, search.most, dtype=torch.bool),
            new(batch, N_FRAME),
        )
        self.places = new(batch, search.most, dtype=torch.int32)
        self.fits = new(batch, dtype=torch.bool)

    def run(self, frames: torch.Tensor) -> None:
        """Find the candidates of frames (b, slow, fast), padded."""
        for _, stage in self.stages(frames):
            stage()

    def stages(self, frames: torch.Tensor) -> list[tuple[str, Callable[[], None]]]:
        """The steps of run, by name, in order; each needs those before it."""
        return [
            ("background", lambda: self._find_background(frames)),
            ("spread", lambda: self._measure_spread(frames)),
            ("flag", lambda: self._flag(frames)),
            ("maxima", lambda: self._find_maxima(frames)),
            ("describe", lambda: self._describe(frames)),
        ]

    def _of_pixels(self, frames: torch.Tensor) -> tuple[Any, ...]:
        """Arguments by which kernels get z."""
        blocks = self._blocks
        return frames, self._mask, blocks.mean, blocks.inverse

    def _find_background(self, frames: torch.Tensor) -> None:
        self._counters.zero_()
        if frames.is_floating_point():
            sample = frames[:, ::BLOCK]
            whole = (sample == sample.floor()) | (self._mask[::BLOCK] == 0)
            low, high = self._range
            if self._trusted:
                whole |= ~((sample >= low) & (sample <= high))
            whole = whole.flatten(start_dim=1).all(dim=1)  # (b,)
            self._least_whole.copy_(whole).mul_(LEAST_WHOLE)
        self._blocks = self._background.run(frames, self._least_whole, self._counters)

    def _measure_spread(self, frames: torch.Tensor) -> None:
        n = self._sample.shape[1]
        sampled = self._counters[3]
        sample_kernel[(triton.cdiv(n, _SAMPLE_THREADS), self._n)](
            *self._of_pixels(frames),
            *self._range,
            self._sample,
            sampled,
            n,
            self._across,
            **self._size,
            THREADS=_SAMPLE_THREADS,
            TRUSTED=self._trusted,
        )
        spread_kernel[(self._n,)](
            self._sample, sampled, self._spread, n, CHUNK=_CHUNK, num_warps=8
        )

    def _flag(self, frames: torch.Tensor) -> None:
        flag_kernel[(len(self._kinds), self._n)](
            frames,
            self._bits,
            self._kinds,
            self._blocks.mean,
            self._blocks.inverse,
            *self._range,
            self._spread,
            self._words,
            **self._size,
            THREADS=_FLAG_THREADS,
            TRUSTED=self._trusted,
        )

    def _find_maxima(self, frames: torch.Tensor) -> None:
        flagged, strong, maxima = self._counters[4:7]
        low = self._counters[8:]
        n_words = self._words.shape[1]
        compact_kernel[(triton.cdiv(n_words, _COMPACT_THREADS), self._n)](
            self._words,
            self._flagged,
            flagged,
            **self._size,
            room=FLAGGED,
            THREADS=_COMPACT_THREADS,
        )
        programs = max(_PROGRAMS // self._n, 1)
        strong_kernel[(min(programs, 256), self._n)](
            *self._of_pixels(frames),
            self._blocks.skew,
            *self._range,
            self._spread,
            self._depths,
            self._flagged,
            flagged,
            FLAGGED,
            self._strong,
            strong,
            STRONG,
            low,
            self._room,
            **self._size,
            THREADS=_STRONG_THREADS,
            TRUSTED=self._trusted,
            num_warps=2,
        )
        maxima_kernel[(min(programs, 128), self._n)](
            *self._of_pixels(frames),
            self._blocks.skew,
            *self._range,
            self._spread,
            self._strong,
            strong,
            self._maxima,
            maxima,
            STRONG,
            **self._size,
            THREADS=_MAXIMA_THREADS,
            TRUSTED=self._trusted,
        )

    def _describe(self, frames: torch.Tensor) -> None:
        used, short, varied, _, flagged, strong, maxima, kept = self._counters[:8]
        # The room of the strong pixels is free again.
        ring_kernel[(max(_PROGRAMS // self._n, 1), self._n)](
            self._maxima,
            maxima,
            self._strong,
            kept,
            STRONG,
            self._search.per_ring,
            self._beam_centre,
            self._size["columns"],
            THREADS=_RING_THREADS,
        )
        choose_kernel[(self._n,)](
            self._maxima,
            maxima,
            self._strong,
            kept,
            self._counters[8:],
            used,
            self._spread,
            self._levels,
            self._chosen,
            self._n_chosen,
            self.batch.frame,
            self._search.most,
            STRONG,
            SLOTS,
            self._room,
            SIZE=_KEYS,
            num_warps=8,
        )
        centre_kernel[(OFFSETS, self._n)](
            self._chosen,
            self._n_chosen,
            self._beam_centre,
            self._offsets,
            self._pairs,
            self._size["columns"],
            num_warps=4,
        )
        describe_kernel[(self._search.most, self._n)](
            *self._of_pixels(frames),
            self._blocks.skew,
            self._blocks.middle,
            *self._range,
            self._spread,
            self._chosen,
            self._n_chosen,
            self._beam_centre,
            self._offsets,
            self._pairs,
            self.batch.patches,
            self.batch.scalars,
            self.batch.present.view(torch.uint8),
            self.places,
            self._search.most,
            **self._size,
            TRUSTED=self._trusted,
        )
        room = (flagged <= FLAGGED) & (strong <= STRONG) & (maxima <= STRONG)
        fits = room & (short == 0) & (varied > 0)
        self.fits.copy_(fits[: self._n])

    def slow_fast(self, places: NDArray[np.int32]) -> NDArray[np.int64]:
        """Pixel indices (n, 2), (slow, fast), of places (n,)."""
        width = self._layout.padded[1]
        return np.stack([places // width, places % width], axis=1).astype(np.int64)


def _bits_of_groups(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The mask at columns x - 1 to x + 4 of each group of 4, uint8 (slow, fast / 4)."""
    slow, fast = mask.shape
    padded = np.pad(mask, ((0, 0), (1, 1)))
    bits = np.zeros((slow, fast // 4), np.uint8)
    for k in range(6):
        bits |= padded[:, k : k + fast : 4] * np.uint8(1 << k)
    return bits


def _kinds(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What flag_kernel's programs may take for granted, int64 (programs,).

    Args:
        bits: Of _bits_of_groups.
    """
    slow = len(bits)
    # Rows y - 1 to y + 16 of the segments, which start 8 rows above the frame.
    padded = np.pad(bits, ((BLOCK // 2 + 1, BLOCK // 2 + 1), (0, 0)))
    segments = slow // BLOCK + 1
    rows = [padded[k : k + BLOCK * segments : BLOCK] for k in range(BLOCK + 2)]
    every = np.bitwise_and.reduce(rows).ravel() == 0b111111  # (segments * groups,)
    none = np.bitwise_or.reduce(rows).ravel() == 0
    programs = -(-every.size // _FLAG_THREADS)
    room = programs * _FLAG_THREADS - every.size
    full = np.pad(every, (0, room)).reshape(programs, -1).all(axis=1)
    empty = np.pad(none, (0, room), constant_values=True).reshape(programs, -1)
    return np.select([full, empty.all(axis=1)], [1, 2], 0)
