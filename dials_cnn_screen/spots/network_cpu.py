"""The spot network for one frame on one CPU core: network.SpotNetwork, compiled.

torch spends most of its time on starting some 30 small operations, and a second on its
import; here is one function. It takes one thread, where BLAS would start more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.architecture import as_array
from dials_cnn_screen.spots.candidates import PATCH, Candidates
from dials_cnn_screen.spots.configuration import HEAD_LIMIT
from dials_cnn_screen.spots.features import (
    BROAD_RING,
    NEIGHBOURHOOD,
    RING,
    RING_BIN,
    RING_OFFSETS,
    describe_with,
)
from dials_cnn_screen.util.compiled import njit

# Sums may be reordered, so that they vectorise.
_FASTMATH = {"reassoc", "contract", "nsz"}


class SpotWeights(NamedTuple):
    """Weights (out, in) and biases (out,) of the layers, float32, in order.

    The spot layers take code and context side by side: their weights are in two.
    """

    patch_0: NDArray[np.float32]
    patch_0_bias: NDArray[np.float32]
    patch_2: NDArray[np.float32]
    patch_2_bias: NDArray[np.float32]
    code: NDArray[np.float32]
    code_bias: NDArray[np.float32]
    context: NDArray[np.float32]
    context_bias: NDArray[np.float32]
    spot_0_code: NDArray[np.float32]
    spot_0_context: NDArray[np.float32]
    spot_0_bias: NDArray[np.float32]
    spot_2: NDArray[np.float32]
    spot_2_bias: NDArray[np.float32]
    count_0: NDArray[np.float32]
    count_0_bias: NDArray[np.float32]
    count_2: NDArray[np.float32]
    count_2_bias: NDArray[np.float32]
    head_0: NDArray[np.float32]
    head_0_bias: NDArray[np.float32]
    head_2: NDArray[np.float32]
    head_2_bias: NDArray[np.float32]


def spot_weights(state: Mapping[str, ArrayLike]) -> SpotWeights:
    """The weights of a SpotNetwork, from its state_dict or arrays like it.

    Raises:
        KeyError: It is not that of a SpotNetwork.
    """

    def layer(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight, bias = (as_array(state[f"{name}.{kind}"]) for kind in _KINDS)
        return np.array(weight, np.float32), np.array(bias, np.float32)

    spot, spot_bias = layer("spot.0")
    width = len(spot)  # of a candidate's code
    return SpotWeights(
        *(*layer("patch.0"), *layer("patch.2"), *layer("code.1"), *layer("context.0")),
        np.ascontiguousarray(spot[:, :width]),
        np.ascontiguousarray(spot[:, width:]),
        spot_bias,
        *layer("spot.2"),
        *(*layer("count.0"), *layer("count.2"), *layer("head.0"), *layer("head.2")),
    )


_KINDS = ("weight", "bias")


def classify(
    candidates: Candidates, weights: SpotWeights
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Logits of the frame (3,), of n candidates being spots (n,), and features (f,).

    Within 1e-5 of network.SpotNetwork.
    """
    slow, fast = candidates.slow, candidates.fast
    neighbours = _count_neighbours(slow, fast, *candidates.beam_centre)
    scalars, frame = describe_with(candidates, *neighbours)
    patches = candidates.patches.reshape(-1, 2 * PATCH * PATCH)  # (n, 2 * 13 * 13)
    # As an argument: numba's cache does not see what changes in another file.
    return _forward(patches, scalars, frame, weights, np.float32(HEAD_LIMIT))


@njit()
def _count_neighbours(slow, fast, beam_slow, beam_fast):
    """features.count_neighbours: slow, fast (n,) pixels; the beam centre, pixels."""
    n = len(slow)
    radius = ring_radii(slow, fast, beam_slow, beam_fast)
    square = np.full(n, 1e8)
    near, ring = np.zeros(n, np.int64), np.zeros(n, np.int64)
    broad = np.zeros(n, np.int64)
    for i in range(n):
        for j in range(i):
            y, x = slow[i] - slow[j], fast[i] - fast[j]
            distance = np.float64(y * y + x * x)
            square[i], square[j] = min(square[i], distance), min(square[j], distance)
            is_near = np.int64(distance <= NEIGHBOURHOOD**2)
            apart = abs(radius[i] - radius[j])
            in_ring = np.int64(apart <= RING)
            in_broad = np.int64(apart <= BROAD_RING)
            near[i], near[j] = near[i] + is_near, near[j] + is_near
            ring[i], ring[j] = ring[i] + in_ring, ring[j] + in_ring
            broad[i], broad[j] = broad[i] + in_broad, broad[j] + in_broad
    return square, near, ring, broad


@njit()
def ring_radii(slow, fast, beam_slow, beam_fast):
    """Radii of candidates about features.ring_centre: float64 (n,)."""
    n = len(slow)
    radius, best = np.empty(n), np.empty(n)
    count = np.zeros(1, np.int64)
    most = -1
    for k in range(len(RING_OFFSETS)):
        largest = 0
        for i in range(n):
            y = slow[i] + 0.5 - (beam_slow + RING_OFFSETS[k, 0])
            x = fast[i] + 0.5 - (beam_fast + RING_OFFSETS[k, 1])
            radius[i] = np.sqrt(y * y + x * x)
            largest = max(largest, int(radius[i] / RING_BIN))
        if largest + 2 > len(count):
            count = np.zeros(largest + 2, np.int64)
        # Each adds what it has to do with those before it, itself included.
        pairs = 0
        for i in range(n):
            b = int(radius[i] / RING_BIN)
            pairs += 4 * count[b] + 2 + 2 * count[b + 1]
            if b > 0:
                pairs += 2 * count[b - 1]
            count[b] += 1
        for i in range(n):
            count[int(radius[i] / RING_BIN)] = 0
        if pairs > most:
            most = pairs
            best[:] = radius
    return best


@njit()
def _forward(patches, scalars, frame, w, limit):
    """SpotNetwork.forward of one frame.

    Args:
        patches: float32 (n, 2 * 13 * 13).
        scalars: float32 (n, 11).
        frame: float32 (14,).
        w: SpotWeights.
        limit: float32, HEAD_LIMIT.
    """
    n = len(patches)
    hidden = _relu(_dense(patches, w.patch_0, w.patch_0_bias))  # (n, patch)
    hidden = _dense(hidden, w.patch_2, w.patch_2_bias)  # (n, patch)
    described = _relu(np.concatenate((hidden, scalars), axis=1))  # (n, patch + 11)
    code = _relu(_dense(described, w.code, w.code_bias))  # (n, candidate)
    width = code.shape[1]
    pooled = np.zeros(2 * width + len(frame), np.float32)
    pooled[2 * width :] = frame
    for i in range(n):
        for j in range(width):
            pooled[j] += code[i, j] / np.float32(n)
            pooled[width + j] = max(pooled[width + j], code[i, j])  # after a ReLU
    context = _relu(_layer(pooled, w.context, w.context_bias))  # (context,)
    bias = _layer(context, w.spot_0_context, w.spot_0_bias)  # (candidate,)
    hidden = _relu(_dense(code, w.spot_0_code, bias))  # (n, candidate)
    spot_logits = _dense(hidden, w.spot_2, w.spot_2_bias)[:, 0]  # (n,)
    p_spot = 1 / (1 + np.exp(-spot_logits))  # (n,)
    # Mean and variance of the number of spots, were candidates independent.
    number, variance = p_spot.sum(), (p_spot * (1 - p_spot)).sum()
    of_spots = np.zeros(width, np.float32)
    for i in range(n):
        for j in range(width):
            of_spots[j] += code[i, j] * p_spot[i] / (number + 1)
    counts = np.array(
        [np.sqrt(number), np.log1p(number), np.log1p(variance), number / 20]
    ).astype(np.float32)
    features = np.concatenate((context, of_spots, counts))  # (f,)
    by_count = _relu(_layer(counts, w.count_0, w.count_0_bias))  # (count,)
    by_count = _layer(by_count, w.count_2, w.count_2_bias)  # (3,)
    correction = _relu(_layer(features, w.head_0, w.head_0_bias))  # (head,)
    correction = _layer(correction, w.head_2, w.head_2_bias)  # (3,)
    return by_count + limit * np.tanh(correction / limit), spot_logits, features


@njit()
def _layer(x, weight, bias):
    """weight (m, k) @ x (k,) + bias (m,)."""
    return _dense(x.reshape(1, -1), weight, bias)[0]


@njit(fastmath=_FASTMATH)
def _dense(x, weight, bias):
    """x (n, k) @ weight (m, k)^T + bias (m,): (n, m).

    Eight sums at a time, of two rows and four outputs, use what they read several
    times: faster by a half. Where a row or outputs are left over, the last is computed
    again.
    """
    n, m = len(x), len(bias)
    out = np.empty((n, m), np.float32)
    for i in range(0, n, 2):
        i1 = min(i + 1, n - 1)
        u, v = x[i], x[i1]  # (k,)
        for j in range(0, m, 4):
            j1, j2, j3 = min(j + 1, m - 1), min(j + 2, m - 1), min(j + 3, m - 1)
            a, b, c, d = weight[j], weight[j1], weight[j2], weight[j3]  # (k,)
            ua = ub = uc = ud = va = vb = vc = vd = np.float32(0)
            for p in range(len(u)):
                ua += u[p] * a[p]
                ub += u[p] * b[p]
                uc += u[p] * c[p]
                ud += u[p] * d[p]
                va += v[p] * a[p]
                vb += v[p] * b[p]
                vc += v[p] * c[p]
                vd += v[p] * d[p]
            out[i, j], out[i1, j] = ua + bias[j], va + bias[j]
            out[i, j1], out[i1, j1] = ub + bias[j1], vb + bias[j1]
            out[i, j2], out[i1, j2] = uc + bias[j2], vc + bias[j2]
            out[i, j3], out[i1, j3] = ud + bias[j3], vd + bias[j3]
    return out


@njit()
def _relu(x):
    """x, what is below 0 set to 0."""
    return np.maximum(x, np.float32(0))
