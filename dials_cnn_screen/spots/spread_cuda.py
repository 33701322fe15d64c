"""The standard deviation of the weighted sums of each frame, by a sample of pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots.pixels_cuda import weighted_sums
from dials_cnn_screen.util.kernels_cuda import middles

_ROW_STEP, _COLUMN_STEP = (tl.constexpr(s.step) for s in reference.SAMPLE)
_NORM = tl.constexpr(reference.NORM)
_MAD_TO_DEVIATION = tl.constexpr(reference.MAD_TO_DEVIATION)


@triton.jit(do_not_specialize=["n", "across", "rows", "columns"])
def sample_kernel(
    data,
    mask,
    mean,
    inverse,
    low,
    high,
    sample,
    n_sampled,
    n,
    across,
    rows,
    columns,
    THREADS: tl.constexpr,
    TRUSTED: tl.constexpr,
):
    """Weighted sums over NORM of the pixels of SAMPLE, infinity where not used.

    Args:
        data, mask, mean, inverse, low, high: As in pixels_cuda, for each frame.
        sample: float32 (b, n), written; ``across`` of a row.
        n_sampled: int32 (b,), the number of used ones, added to.
    """
    k = tl.program_id(0) * THREADS + tl.arange(0, THREADS)
    frame = tl.program_id(1).to(tl.int64)
    n_blocks = rows * columns
    y, x = 1 + k // across * _ROW_STEP, 1 + k % across * _COLUMN_STEP
    _, total, used = weighted_sums(
        data + frame * n_blocks * 256,
        mask,
        mean + frame * n_blocks,
        inverse + frame * n_blocks,
        low,
        high,
        y,
        x,
        k < n,
        rows,
        columns,
        TRUSTED,
    )
    value = tl.where(used, total * (1 / _NORM), float("inf"))
    tl.store(sample + frame * n + k, value, mask=k < n)
    tl.atomic_add(n_sampled + frame, tl.sum(used.to(tl.int32)), sem="relaxed")


@triton.jit(do_not_specialize=["n"])
def spread_kernel(sample, n_sampled, spread, n, CHUNK: tl.constexpr):
    """candidates.sum_deviation of the samples (n,) of each frame."""
    frame = tl.program_id(0).to(tl.int64)
    values = sample + frame * n
    used = tl.load(n_sampled + frame)
    a, b = middles(values, n, used, 0.0, False, CHUNK)
    a, b = middles(values, n, used, 0.5 * (a + b), True, CHUNK)
    deviation = tl.maximum(0.5 * (a + b) * _MAD_TO_DEVIATION, 1.0)
    tl.store(spread + frame, tl.where(used > 0, deviation, 1.0))
