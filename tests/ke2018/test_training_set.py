from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.architecture import MAX_SHIFT, Augmentation
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.ke2018.training_set import (
    Dataset,
    allocate_images,
    allocate_unnamed,
    as_stored,
    with_margin,
)

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


def crops_of(dataset, n=60, seed=0, **changes):
    """n crops of every frame in turn, float32 (n, SIZE, SIZE)."""
    indices = np.arange(n) % len(dataset.labels)
    rng = np.random.default_rng(seed)
    images = dataset.augmented(indices, Augmentation(**changes), rng)
    assert images.shape == (n, 1, SIZE, SIZE)
    assert images.dtype == torch.float32
    return images[:, 0].numpy()


def test_margin_leaves_room_for_the_shifts_of_section_2_2():
    preprocessing = Preprocessing(binning=3, size=720, contrast="linear")
    assert with_margin(preprocessing) == Preprocessing(3, 960, "linear")


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


def test_images_without_a_name_leave_no_file(tmp_path):
    images = allocate_unnamed(tmp_path, 3, Preprocessing(size=SIZE))
    assert images.shape == (3, EDGE, EDGE)
    assert images.dtype == np.float16
    images[1] = 2
    assert images[1].min() == 2
    assert images[2].max() == 0
    assert list(tmp_path.iterdir()) == []


def test_batch_is_of_centre_crops_in_order(dataset):
    images = dataset.batch(np.array([3, 4, 11]))
    assert images.shape == (3, 1, SIZE, SIZE)
    middle = np.arange(MAX_SHIFT, MAX_SHIFT + SIZE) / 256
    np.testing.assert_array_equal(images[0, 0], np.tile(middle[:, None], SIZE))
    np.testing.assert_array_equal(images[1, 0], np.tile(middle, (SIZE, 1)))


def test_random_crops_cover_the_frame_and_are_flipped_and_turned(dataset):
    place = np.rint(crops_of(dataset, 540) * 256).astype(int)
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


def ways(dataset, **changes) -> set[tuple[int, int]]:
    """Steps down and across of crops of frames with steps of 1 down and 2 across."""
    dataset.images[:] = np.add.outer(np.arange(EDGE), 2 * np.arange(EDGE)) / 1024
    crops = crops_of(dataset, 270, **changes)
    down = np.rint(1024 * (crops[:, 1, 0] - crops[:, 0, 0])).astype(int)
    across = np.rint(1024 * (crops[:, 0, 1] - crops[:, 0, 0])).astype(int)
    return set(zip(down.tolist(), across.tolist(), strict=True))


def test_all_eight_ways_to_lay_a_frame(dataset):
    one_two = {(i, 2 * j) for i in (-1, 1) for j in (-1, 1)}
    assert ways(dataset) == one_two | {(y, x) for x, y in one_two}


def test_each_variation_can_be_left_out(dataset):
    assert ways(dataset, flips=False, quarter_turns=False) == {(1, 2)}
    assert ways(dataset, quarter_turns=False) == {(1, 2), (-1, 2)}
    turned = {(1, 2), (-1, -2), (2, -1), (-2, 1)}
    assert ways(dataset, flips=False) == turned
    still = crops_of(dataset, shift=0, flips=False, quarter_turns=False)
    np.testing.assert_array_equal(still, dataset.batch(np.arange(60) % 20)[:, 0])


def test_shift_is_bounded(dataset):
    corners = crops_of(dataset, 540, shift=3).min(axis=(1, 2)) * 256 - MAX_SHIFT
    assert set(corners.astype(int)) == set(range(-3, 4))


def test_intensity_is_scaled_both_ways(dataset):
    dataset.images[:] = 1
    factors = crops_of(dataset, 300, intensity=0.5)[:, 0, 0]
    assert 1 / 1.5 <= factors.min() < 0.7
    assert 1.45 < factors.max() <= 1.5
    assert np.median(factors) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "changes", [{"shift": -1}, {"shift": MAX_SHIFT + 1}, {"intensity": -0.1}]
)
def test_unusable_augmentation(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}=.* is not"):
        Augmentation(**changes)


def test_crops_are_drawn_by_the_seed(dataset):
    first, again, other = (crops_of(dataset, 9, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_loss_by_hand(dataset):
    # -log softmax of each: the Hit 0.2, the Misses 0.4 and 0.6.
    p = torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.1, 0.3, 0.6]])
    expected = -(np.log(0.2) + np.log(0.4) + np.log(0.6)) / 3
    loss = dataset.loss(torch.log(p), np.array([0, 7, 8]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_batches_are_the_same_where_the_images_are_on_a_device(dataset):
    there = dataset.on("cpu")
    assert isinstance(there.images, torch.Tensor)
    indices = np.array([3, 0, 3])
    assert torch.equal(there.batch(indices), dataset.batch(indices))
    np.testing.assert_array_equal(
        crops_of(there, intensity=0.5), crops_of(dataset, intensity=0.5)
    )
