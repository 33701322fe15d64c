from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.dataset import (
    MAX_SHIFT,
    Dataset,
    allocate_images,
    as_stored,
    balanced_batches,
    centre_crops,
    split,
    wide,
)
from dials_cnn_screen.preprocessing import Preprocessing

SIZE = 6
EDGE = SIZE + 2 * MAX_SHIFT


@pytest.fixture
def dataset():
    """20 frames, 2 Hit, 5 Maybe, 13 Miss; a frame's columns and rows are numbered."""
    place = np.arange(EDGE) / 256  # exact in float16
    images = np.empty((20, EDGE, EDGE), np.float16)
    images[::2] = place[None, :]
    images[1::2] = place[:, None]
    return Dataset(images, np.repeat([0, 1, 2], [2, 5, 13]))


def batches(dataset, n_batches=30, seed=0, indices=None, batch_size=9):
    indices = np.arange(len(dataset.labels)) if indices is None else indices
    rng = np.random.default_rng(seed)
    return list(balanced_batches(dataset, indices, batch_size, n_batches, rng))


def test_wide_leaves_room_for_the_shifts_of_section_2_2():
    preprocessing = Preprocessing(binning=3, size=720, contrast="linear")
    assert wide(preprocessing) == Preprocessing(3, 960, "linear")


def test_allocated_images_are_a_file(tmp_path):
    images = allocate_images(tmp_path / "i.npy", 3, Preprocessing(size=SIZE))
    assert images.shape == (3, EDGE, EDGE)
    images[1] = 2
    images.flush()
    stored = np.load(tmp_path / "i.npy", mmap_mode="r")
    assert stored.dtype == np.float16
    assert stored[1].min() == 2
    assert stored[2].max() == 0


def test_stored_numbers_stay_finite():
    stored = as_stored(np.array([-1e6, -0.5, 2.0, 65535.0, 1e6], np.float32))
    assert stored.dtype == np.float16
    assert stored.tolist() == [-65504, -0.5, 2, 65504, 65504]


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (2000, (0.5, 0.2, 0.3), [1000, 400, 600]),
        (10, (5, 2, 3), [5, 2, 3]),
        (7, (0.5, 0.5, 0), [4, 3, 0]),
        (3, (0, 0, 1), [0, 0, 3]),
        (0, (0.5, 0.2, 0.3), [0, 0, 0]),
    ],
)
def test_split_has_each_image_once(n, fractions, sizes):
    parts = split(n, fractions, seed=1)
    assert [len(part) for part in parts] == sizes
    assert sorted(np.concatenate(parts)) == list(range(n))
    for part in parts:
        assert (np.diff(part) > 0).all()


def test_split_is_drawn_by_its_seed():
    first, again, other = (split(100, (0.5, 0.2, 0.3), s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(50))


def test_split_into_nothing():
    with pytest.raises(ValueError, match="leave no part any images"):
        split(10, (0, 0, 0), 0)


def test_centre_crops(dataset):
    indices = np.array([3, 4, 11, 0, 19])
    crops = list(centre_crops(dataset, indices, batch_size=2))
    assert [tuple(images.shape) for images, _ in crops] == [
        (2, 1, SIZE, SIZE),
        (2, 1, SIZE, SIZE),
        (1, 1, SIZE, SIZE),
    ]
    assert [int(x) for _, labels in crops for x in labels] == [1, 1, 2, 0, 2]
    middle = np.arange(MAX_SHIFT, MAX_SHIFT + SIZE) / 256
    np.testing.assert_array_equal(crops[0][0][0, 0], np.tile(middle[:, None], SIZE))
    np.testing.assert_array_equal(crops[0][0][1, 0], np.tile(middle, (SIZE, 1)))


def test_batches_have_equal_numbers_of_each_class(dataset):
    for images, labels in batches(dataset):
        assert images.shape == (9, 1, SIZE, SIZE)
        assert np.bincount(labels.numpy()).tolist() == [3, 3, 3]


def test_batches_when_a_class_is_missing(dataset):
    for _, labels in batches(dataset, indices=np.arange(2, 20), batch_size=8):
        assert np.bincount(labels.numpy(), minlength=3).tolist() == [0, 4, 4]


def test_batches_use_the_indices_given_alone(dataset):
    chosen = np.array([0, 3, 9])
    dataset.images[chosen] += 4
    for images, _ in batches(dataset, indices=chosen):
        assert images.min() >= 4


def test_random_crops_cover_the_frame_and_are_flipped_and_turned(dataset):
    crops = np.concatenate([images[:, 0] for images, _ in batches(dataset, 60)])
    place = np.rint(crops * 256).astype(int)
    corners = place.min(axis=(1, 2))
    assert 0 <= corners.min() <= 5
    assert 2 * MAX_SHIFT - 5 <= corners.max() <= 2 * MAX_SHIFT
    steps = set()
    for crop in place:
        down, across = crop[1, 0] - crop[0, 0], crop[0, 1] - crop[0, 0]
        steps.add((down, across))
        # Numbers still run on evenly, by columns or by rows.
        np.testing.assert_array_equal(np.diff(crop, axis=0), down)
        np.testing.assert_array_equal(np.diff(crop, axis=1), across)
    assert steps == {(0, 1), (0, -1), (1, 0), (-1, 0)}


def test_all_eight_ways_to_lay_a_frame(dataset):
    # Steps of 1 down and 2 across; each way has its own signs and order of the two.
    dataset.images[:] = np.add.outer(np.arange(EDGE), 2 * np.arange(EDGE)) / 1024
    crops = np.concatenate([images[:, 0] for images, _ in batches(dataset)])
    down = np.rint(1024 * (crops[:, 1, 0] - crops[:, 0, 0])).astype(int)
    across = np.rint(1024 * (crops[:, 0, 1] - crops[:, 0, 0])).astype(int)
    steps = set(zip(down.tolist(), across.tolist(), strict=True))
    one_two = {(i, 2 * j) for i in (-1, 1) for j in (-1, 1)}
    assert steps == one_two | {(y, x) for x, y in one_two}


def test_batches_are_drawn_by_the_seed(dataset):
    first, again, other = (batches(dataset, 1, seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
