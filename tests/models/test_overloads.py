"""What the default model makes of overloaded pixels: spots, and all that is none."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.frame_cpu import fill_frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model

SHAPE = 480, 512
HIGH, ALL_ONES = 60000, 65535


@pytest.fixture(scope="module")
def predict():
    predictor = load_model("default").predictor("cpu")

    def predict(image, static_mask=None):
        """What the default model makes of an image, int32 (slow, fast)."""
        data, mask = np.empty(SHAPE, np.float32), np.empty(SHAPE, bool)
        static_mask = np.ones(SHAPE, bool) if static_mask is None else static_mask
        low, high = np.int32(0), np.int32(HIGH)
        used = fill_frame(image, static_mask, low, high, data, mask)
        return predictor.predict(Frame(data, mask, (240.0, 256.0), used))

    return predict


@pytest.fixture
def background():
    return np.random.default_rng(0).poisson(20, SHAPE).astype(np.int32)


def places(n, seed=1):
    return np.random.default_rng(seed).integers(10, 460, (n, 2))


def peaks(width, height):
    """Spots with an overloaded middle, on a background of 20."""
    y, x = np.indices(SHAPE)
    image = np.full(SHAPE, 20.0)
    for i, j in places(30):
        image += height * np.exp(-((y - i) ** 2 + (x - j) ** 2) / 2 / width**2)
    return np.random.default_rng(2).poisson(image).astype(np.int32)


def centre_distance():
    y, x = np.indices(SHAPE)
    return np.hypot(y - 240, x - 256)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 4), (5, 5)])
def test_blocks_are_a_hit(size, predict, background):
    assert predict(background).label == Label.MISS
    for i, j in places(40):
        background[i : i + size[0], j : j + size[1]] = ALL_ONES
    found = predict(background)
    assert found.label == Label.HIT
    assert found.n_spots >= 30


@pytest.mark.parametrize("width", [0.7, 1, 1.5, 2])
@pytest.mark.parametrize("height", [1e5, 5e5])
def test_overloaded_peaks_are_a_hit(height, width, predict):
    assert predict(peaks(width, height)).label == Label.HIT


def gaps(image, _):
    image[:, 100:110] = image[200:237] = image[:, 300:302] = ALL_ONES


def pixels(image, _):
    image.ravel()[np.random.default_rng(3).choice(image.size, 300, False)] = ALL_ONES


def hot_pixels(image, _):
    image.ravel()[np.random.default_rng(3).choice(image.size, 300, False)] = 1_000_000


def borders(image, _):
    image[::64] = image[:, ::64] = ALL_ONES


def module(image, _):
    image[100:230, 200:330] = ALL_ONES


def direct_beam(image, _):
    r = centre_distance()
    image += np.random.default_rng(4).poisson(1e6 * np.exp(-((r / 28) ** 2)))


def beam_stop(image, _):
    r = centre_distance()
    rim = 40 * HIGH * np.exp(-(((r - 40) / 3.5) ** 2))
    image += np.random.default_rng(4).poisson(rim)
    image[r < 36] = 0


def masked_beam(image, mask):
    direct_beam(image, mask)
    mask[centre_distance() < 44] = False  # it saturates up to 47


def streak(image, _):
    image[100:400, 250:253] = ALL_ONES


def noise(image, _):
    r = centre_distance()
    ring = HIGH * np.exp(-(((r - 150) / 60) ** 2))
    image += np.random.default_rng(4).poisson(ring)


@pytest.mark.parametrize(
    "spoil",
    [
        gaps, pixels, hot_pixels, borders, module, direct_beam, beam_stop, masked_beam,
        streak, noise,
    ],
)  # fmt: skip
def test_what_else_is_overloaded_is_no_spot(spoil, predict, background):
    mask = np.ones(SHAPE, bool)
    spoil(background, mask)
    assert np.count_nonzero((background > HIGH) & mask) >= 200
    found = predict(background, mask)
    assert found.label == Label.MISS
    assert found.n_spots <= 1
    # As if all overloaded pixels were masked by hand.
    by_hand = predict(background, mask & (background <= HIGH))
    assert found.p_keep == pytest.approx(by_hand.p_keep, abs=0.05)
