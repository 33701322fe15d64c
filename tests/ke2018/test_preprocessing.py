from __future__ import annotations

import math

import numpy as np
import pytest

from dials_cnn_screen.ke2018.preprocessing import (
    Preprocessing,
    bin_pixels,
    crop,
    crop_corner,
    linear_contrast,
    local_contrast_normalise,
    prepare,
)


def all_used(image):
    return np.ones(image.shape, dtype=bool)


def lcn_by_hand(image, mask):
    """Equations 6 to 9 pixel by pixel; masked pixels are left out of every sum."""

    def mirrored(index, length):
        return abs(index) if index < length else 2 * (length - 1) - index

    rows, columns = image.shape
    used = [float(x) for x in image[mask]]
    mean = sum(used) / len(used)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in used) / len(used))
    result = np.zeros(image.shape)
    for i in range(rows):
        for j in range(columns):
            if not mask[i, j]:
                continue
            near = []
            for y in range(i - 2, i + 3):
                for x in range(j - 2, j + 3):
                    place = mirrored(y, rows), mirrored(x, columns)
                    if mask[place]:
                        near.append((image[place] - mean) / deviation)
            local_mean = sum(near) / len(near)
            variance = sum(p * p for p in near) / len(near) - local_mean**2
            p = (image[i, j] - mean) / deviation
            result[i, j] = (p - local_mean) / math.sqrt(variance)
    return result


# Binning


def test_bin_means():
    data = np.arange(24).reshape(4, 6)
    binned, used = bin_pixels(data, all_used(data), 2)
    assert binned.tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert used.all()


def test_masked_pixels_are_left_out_of_bins():
    data = np.array([[1, 3, 50, 60], [100, 5, 70, np.nan]])
    mask = np.array([[True, True, False, False], [False, True, False, False]])
    binned, used = bin_pixels(data, mask, 2)
    assert binned.tolist() == [[3.0, 0.0]]
    assert used.tolist() == [[True, False]]


def test_rows_and_columns_over_are_left_out():
    data = np.ones((5, 7))
    data[4:] = data[:, 6:] = 99
    binned, _ = bin_pixels(data, all_used(data), 3)
    assert binned.tolist() == [[1.0, 1.0]]


def test_large_integers_do_not_overflow():
    data = np.full((2, 2), 2**31 - 1, dtype=np.int32)
    binned, _ = bin_pixels(data, all_used(data), 2)
    assert binned.tolist() == [[2**31 - 1]]


# Cropping


@pytest.mark.parametrize(
    ("centre", "size", "corner"),
    [((5, 5), 4, (3, 3)), ((5.4, 5.5), 4, (3, 4)), ((0, -7.5), 3, (-1, -8))],
)
def test_crop_corner(centre, size, corner):
    assert crop_corner(centre, size) == corner


@pytest.mark.parametrize("centre", [(4, 4), (0, 9), (-20, 4), (4, 30), (-1, 11)])
@pytest.mark.parametrize("size", [3, 4, 25])
def test_crop_pixel_by_pixel(centre, size):
    image = np.arange(1.0, 81.0).reshape(8, 10)
    mask = image % 7 != 0
    out, used = crop(image, mask, centre, size)
    assert out.shape == used.shape == (size, size)
    for i in range(size):
        for j in range(size):
            y, x = centre[0] - size // 2 + i, centre[1] - size // 2 + j
            if 0 <= y < 8 and 0 <= x < 10:
                assert out[i, j] == image[y, x]
                assert used[i, j] == mask[y, x]
            else:
                assert out[i, j] == 0
                assert not used[i, j]


# Contrast


@pytest.mark.parametrize("shape", [(12, 9), (5, 5), (6, 20)])
def test_lcn_is_equations_6_to_9(shape):
    image = np.random.default_rng(0).gamma(2, 50, shape)
    mask = all_used(image)
    np.testing.assert_allclose(
        local_contrast_normalise(image, mask), lcn_by_hand(image, mask), atol=1e-6
    )


def test_lcn_leaves_masked_pixels_out():
    rng = np.random.default_rng(1)
    image = rng.normal(10, 3, (12, 14))
    mask = rng.random(image.shape) < 0.7
    result = local_contrast_normalise(np.where(mask, image, 1e6), mask)
    np.testing.assert_allclose(result, lcn_by_hand(image, mask), atol=1e-6)


def test_lcn_of_a_spot():
    # One pixel of 25 is 1, the others 0: mean 1/25, deviation sqrt(24)/25.
    image = np.zeros((20, 20))
    image[10, 10] = 1000
    result = local_contrast_normalise(image, all_used(image))
    assert result[10, 10] == pytest.approx(math.sqrt(24))
    assert result[12, 8] == pytest.approx(-1 / math.sqrt(24))
    assert result[13, 10] == 0


@pytest.mark.parametrize("level", [0.0, 7.0, -3.0, 65535.3, 1e9])
def test_lcn_of_a_flat_frame_is_0(level):
    image = np.full((9, 9), level)
    assert not local_contrast_normalise(image, all_used(image)).any()


@pytest.mark.parametrize("level", [14000.0, 65535.3, 1 / 3])
def test_lcn_within_a_saturated_block_is_0(level):
    image = np.zeros((300, 300))
    image[100:105, 100:105] = level
    result = local_contrast_normalise(image, all_used(image))
    assert result[102, 102] == 0
    assert result[100, 100] > 1


def test_lcn_does_not_depend_on_scale_and_offset():
    image = np.random.default_rng(2).normal(size=(10, 10))
    mask = all_used(image)
    np.testing.assert_allclose(
        local_contrast_normalise(7 * image + 100, mask),
        local_contrast_normalise(image, mask),
        atol=1e-5,
    )


def test_linear_contrast_is_that_of_fig_6():
    # 11 values from 0 to 100: the 90th percentile is 90.
    image = np.linspace(0, 100, 11).reshape(1, 11)
    result = linear_contrast(image, all_used(image))
    np.testing.assert_allclose(result, 0.4 * image / 90, rtol=1e-6)


def test_linear_contrast_is_cut_at_1_and_leaves_masked_pixels_out():
    image = np.full((10, 10), 2.0)
    image[0, :5] = 1000.0
    mask = all_used(image)
    mask[0, 0] = False
    result = linear_contrast(image, mask)
    assert result[0, 0] == 0
    assert result[0, 1] == 1
    assert result[5, 5] == pytest.approx(0.4)


@pytest.mark.parametrize("level", [0.0, -5.0])
def test_linear_contrast_without_counts_is_0(level):
    image = np.full((6, 6), level)
    assert not linear_contrast(image, all_used(image)).any()


# All of it


def test_prepare_bins_crops_and_shifts():
    data = np.arange(40 * 60, dtype=np.int32).reshape(40, 60)
    out = prepare(
        data,
        all_used(data),
        beam_centre=(20, 24),
        preprocessing=Preprocessing(binning=2, size=6, contrast="none"),
        shift=(2, -3),
    )
    # Centre 10, 12 in bins and the shift make 12, 9: bins 9 to 14 and 6 to 11.
    assert out.dtype == np.float32
    expected = data[18:30, 12:24].reshape(6, 2, 6, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("contrast", ["lcn", "linear", "none"])
def test_prepare_a_frame_without_used_pixels(contrast):
    data = np.random.default_rng(0).normal(size=(30, 30))
    out = prepare(
        data,
        np.zeros(data.shape, bool),
        (15, 15),
        Preprocessing(binning=1, size=20, contrast=contrast),
    )
    assert out.dtype == np.float32
    assert not out.any()


@pytest.mark.parametrize("contrast", ["lcn", "linear", "none"])
def test_masked_pixels_do_not_matter(contrast):
    rng = np.random.default_rng(3)
    data = rng.poisson(20, (40, 40)).astype(float)
    mask = rng.random(data.shape) < 0.8
    preprocessing = Preprocessing(binning=2, size=16, contrast=contrast)
    out = prepare(data, mask, (20, 20), preprocessing)
    data[~mask] = np.nan
    np.testing.assert_array_equal(prepare(data, mask, (20, 20), preprocessing), out)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"contrast": "log"}, "contrast 'log' is not one of lcn, linear, none"),
        ({"binning": 0}, "binning must be a positive whole number, not 0"),
        ({"size": 72.5}, "size must be a positive whole number, not 72.5"),
        ({"size": 4}, "size must be at least 5, not 4"),
    ],
)
def test_refused_values(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**values)


def test_as_dict_makes_the_same_again():
    preprocessing = Preprocessing(binning=3, size=90, contrast="linear")
    assert Preprocessing(**preprocessing.as_dict()) == preprocessing
