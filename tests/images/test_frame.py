from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.images.frame import (
    Frame,
    beam_misses_by,
    check_frame,
    make_frame,
)

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_left_as_they_are(dtype):
    data = np.arange(12, dtype=dtype).reshape(3, 4)
    frame = make_frame(data)
    assert frame.data is data
    assert frame.mask.dtype == bool
    assert frame.mask.all()
    check_frame(frame)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_that_are_not_finite_are_masked(dtype):
    data = np.arange(12, dtype=dtype).reshape(3, 4)
    data[1, :3] = np.nan, np.inf, -np.inf
    frame = make_frame(data)
    assert frame.data.dtype == np.float32
    expected = np.ones((3, 4), bool)
    expected[1, :3] = False
    np.testing.assert_array_equal(frame.mask, expected)
    np.testing.assert_array_equal(frame.data, np.where(expected, data, 0))
    check_frame(frame)


def test_too_large_for_float32_is_masked():
    frame = make_frame([[1e300, 1.0, -1e300, 2.0]])
    assert frame.mask.tolist() == [[False, True, False, True]]
    assert frame.data.tolist() == [[0, 1, 0, 2]]


def test_arrays_that_are_given_are_not_written_to():
    data, mask = np.array([[np.nan, 1.0, 2.0]], np.float32), np.ones((1, 3), bool)
    make_frame(data, mask)
    assert np.isnan(data[0, 0])
    assert mask.all()


def test_mask_is_joined_with_what_is_not_finite():
    frame = make_frame([[np.nan, 1.0, 2.0]], [[True, False, True]])
    assert frame.mask.tolist() == [[False, False, True]]


def test_mask_of_0_and_1():
    frame = make_frame([[5, 6]], [[0, 1]])
    assert frame.mask.dtype == bool
    assert frame.mask.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(5), r"data of shape \(5,\)"),
        (np.zeros((2, 3, 4)), r"data of shape \(2, 3, 4\)"),
        (np.zeros((0, 4)), r"data of shape \(0, 4\)"),
        (np.zeros((2, 3), bool), "type bool: give one image"),
        (np.zeros((2, 3), complex), "type complex128"),
        ([["a", "b"]], "type <U1"),
    ],
)
def test_what_is_no_image(data, message):
    with pytest.raises(ValueError, match=message):
        make_frame(data)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), (6,), ()])
def test_mask_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"the mask is .* the image \(2, 3\)"):
        make_frame(np.zeros((2, 3)), np.ones(shape, bool))


def test_beam_centre_is_the_middle_unless_given():
    data = np.zeros((5, 8))
    assert make_frame(data).beam_centre == (2.5, 4.0)
    given = make_frame(data, beam_centre=np.array([-3, 400])).beam_centre
    assert given == (-3.0, 400.0)
    assert all(type(c) is float for c in given)


@pytest.mark.parametrize(
    "centre", [(np.nan, 1.0), (1.0, np.inf), (1.0,), (1.0, 2.0, 3.0)]
)
def test_beam_centres_that_can_not_be(centre):
    with pytest.raises(ValueError, match="not two finite numbers"):
        make_frame(np.zeros((5, 8)), beam_centre=centre)


def test_nothing_to_classify_by():
    data = np.array([[7, 7], [7, 9]], np.float32)
    centre = (1.0, 1.0)
    check_frame(Frame(data, np.ones((2, 2), bool), centre))
    with pytest.raises(ValueError, match="every pixel is masked"):
        check_frame(Frame(data, np.zeros((2, 2), bool), centre))
    with pytest.raises(ValueError, match="has the same value, 7"):
        check_frame(Frame(data, data == 7, centre))


@pytest.mark.parametrize(
    ("centre", "misses_by"),
    [((0, 0), 0), ((10, 40), 0), ((-4, 20), 0.1), ((5, 60), 0.5), ((90, 20), 2)],
)
def test_how_far_the_beam_misses(centre, misses_by):
    assert beam_misses_by((10, 40), centre) == pytest.approx(misses_by)


@pytest.mark.parametrize("slow", [-401.0, 411.0, np.nan, np.inf])
def test_beam_far_from_the_frame(slow):
    data = np.arange(400).reshape(10, 40)
    check_frame(Frame(data, data >= 0, (-400.0, 20.0)))
    with pytest.raises(ValueError, match="the beam misses the detector by"):
        check_frame(Frame(data, data >= 0, (slow, 20.0)))
