from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib import image

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.outputs.pictures import full_middle, middle, thumbnail, whole


def with_spots(n_spots: int, shape=(900, 1000)) -> Frame:
    """A frame of Poisson noise and spots of one pixel."""
    rng = np.random.default_rng(1)
    data = rng.poisson(20, shape).astype(np.float32)
    data[rng.integers(0, shape[0], n_spots), rng.integers(0, shape[1], n_spots)] += 400
    beam_centre = (shape[0] / 2, shape[1] / 2)
    return Frame(data, np.ones(shape, dtype=bool), beam_centre)


def grey(jpeg: str) -> np.ndarray:
    return image.imread(io.BytesIO(base64.b64decode(jpeg)), format="jpeg")


def test_spots_are_seen():
    def dark_pixels(frame):
        seen = grey(middle(frame, 4, quality=90))
        assert seen.shape == (360, 360)
        return np.count_nonzero(seen < 60)

    assert dark_pixels(with_spots(0)) == 0
    # On a frame of 900 x 1000 all spots are on the picture; some may share a block.
    assert 20 <= dark_pixels(with_spots(30)) <= 60


def test_thumbnails_are_small():
    jpeg = thumbnail(with_spots(30))
    assert grey(jpeg).shape == (120, 120)
    assert len(jpeg) < 8000


def test_full_pixels():
    frame = with_spots(0)
    frame.data[100, 37] = 5000
    jpeg = full_middle(frame)
    seen = grey(jpeg)
    assert seen.shape == (1440, 1440)
    # The beam, (450, 500) of the frame, is in the middle.
    assert seen[100 + 270, 37 + 220] < 60
    assert len(jpeg) <= 400_000


def test_frames_that_compress_well_keep_their_pixels():
    frame = with_spots(0)
    frame.data[:] = 20
    frame.data[100, 37] = 50
    seen = grey(full_middle(frame)).astype(int)
    around = seen[369:372, 256:259]
    # 0.4 of the black for 20 ADU, all of it for 50.
    assert abs(around[1, 1] - 0) < 12
    assert abs(around[0, 0] - 153) < 20


def test_whole_frame_pixel_by_pixel():
    frame = with_spots(0)
    frame.data[100, 37] = 5000
    seen = grey(whole(frame))
    assert seen.shape == frame.data.shape
    assert seen[100, 37] < 60


@pytest.mark.parametrize("shape", [(90, 200), (91, 201)])
def test_very_large_frames_are_shown_smaller(shape):
    frame = with_spots(0, shape)
    frame.data[-1, -1] = 5000
    seen = grey(whole(frame, longest=100))
    block = -(-shape[1] // 100)
    assert seen.shape == tuple(-(-n // block) for n in shape)
    assert seen[-1, -1] < 60
