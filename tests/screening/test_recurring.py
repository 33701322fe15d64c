"""Where spots recur: what is a pixel, what may be a sample, what is neither."""

from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.screening.recurring import (
    LEAST_IMAGES,
    REACH,
    DetectorSpots,
    draw_near,
    find_near,
    find_places,
)

HOT = [(10, 20), (300, 400), (255, 260), (400, 80)]
SCRATCH = [(200 + i, 100 + 2 * i) for i in range(40)]
SIZE = (512, 512)


def random_crystal(rng, n=40):
    """Spots of a crystal in any orientation: more of them at low resolution."""
    spots = rng.normal(256, 80, (n, 2))
    return spots[((spots >= 0) & (spots < 512)).all(axis=1)].astype(np.int64)


def still_crystal(rng):
    """80 reflections of one crystal in one orientation, strong ones and weak ones."""
    one = np.random.default_rng(99)
    spots = one.integers(0, 512, (80, 2))
    return spots[rng.random(80) < one.random(80)]


def oriented_crystal(rng, spread):
    """Crystals of nearly one orientation; spread: of a spot, pixels."""
    spots = np.random.default_rng(77).integers(20, 490, (40, 2))
    moved = np.round(spots + rng.normal(0, spread, spots.shape)).astype(np.int64)
    return moved[rng.random(40) < 0.6]


def make_spots(n_images, crystal, hot=(), how_often=1.0, sizes=(SIZE,), panel=0):
    """crystal: gives the spots of the image of a number; hot: pixels that are."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(n_images):
        lit = [pixel for pixel in hot if rng.random() < how_often]
        images.append(np.concatenate([np.reshape(lit, (-1, 2)), crystal(rng, number)]))
    pixel = np.concatenate(images).astype(np.int64)
    image = np.repeat(np.arange(n_images), [len(spots) for spots in images])
    return DetectorSpots(
        list(sizes), n_images, image, np.full(len(image), panel), pixel
    )


def serial(rng, number):
    """Hits in random order, three in ten."""
    return random_crystal(rng) if rng.random() < 0.3 else np.zeros((0, 2), np.int64)


def blank(rng, number):
    return np.zeros((0, 2), np.int64)


def found(places):
    return {tuple(pixel) for pixel in places.pixel.tolist()}


@pytest.mark.parametrize(
    ("n_images", "how_often"), [(100, 1.0), (300, 0.3), (1000, 0.1)]
)
def test_hot_pixels_of_a_serial_run(n_images, how_often):
    places = find_places(make_spots(n_images, serial, HOT, how_often))
    assert found(places) == set(HOT)
    assert not places.in_doubt.any()
    assert places.n_images == pytest.approx(n_images * how_often, rel=0.3)
    assert list(places.n_images) == sorted(places.n_images, reverse=True)


def test_a_scratch():
    places = find_places(make_spots(600, serial, SCRATCH, 0.15))
    assert found(places) == set(SCRATCH)
    assert not places.in_doubt.any()


@pytest.mark.parametrize("n_images", [300, 5000])
def test_nothing_recurs_in_a_serial_run(n_images):
    assert len(find_places(make_spots(n_images, serial))) == 0


def test_nothing_is_concluded_from_few_images():
    assert len(find_places(make_spots(LEAST_IMAGES - 1, serial, HOT))) == 0
    assert len(find_places(make_spots(LEAST_IMAGES, blank))) == 0


def test_a_crystal_on_consecutive_images_is_none():
    def crystal(rng, number):
        return still_crystal(rng) if 100 <= number < 130 else serial(rng, number)

    places = find_places(make_spots(300, crystal, HOT))
    assert found(places) == set(HOT)
    assert not places.in_doubt.any()


@pytest.mark.parametrize("n_still", [300, 270])
def test_a_still_sample_is_in_doubt(n_still):
    def crystal(rng, number):
        return still_crystal(rng) if number < n_still else serial(rng, number)

    places = find_places(make_spots(300, crystal))
    assert len(places) > 60
    assert places.in_doubt.all()


def test_a_sample_that_comes_back_is_in_doubt():
    """One crystal on every tenth image, others between."""

    def crystal(rng, number):
        return still_crystal(rng) if number % 10 == 0 else serial(rng, number)

    places = find_places(make_spots(600, crystal, HOT))
    assert found(places.choose(~places.in_doubt)) == set(HOT)
    assert len(places) > 20


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_preferred_orientation_is_masked_nowhere(spread):
    def crystal(rng, number):
        return (
            oriented_crystal(rng, spread) if rng.random() < 0.3 else blank(rng, number)
        )

    places = find_places(make_spots(2000, crystal))
    assert places.in_doubt.all()


def test_without_a_sample_all_is_in_doubt():
    places = find_places(make_spots(200, blank, HOT))
    assert found(places) == set(HOT)
    assert places.in_doubt.all()


def test_order_of_spots_does_not_matter():
    spots = make_spots(200, serial, HOT, 0.5)
    order = np.random.default_rng(1).permutation(len(spots.image))
    other = DetectorSpots(
        spots.sizes,
        spots.n_images,
        spots.image[order],
        spots.panel[order],
        spots.pixel[order],
    )
    one, two = find_places(spots), find_places(other)
    for name in vars(one):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_panels():
    sizes = [(30, 50), SIZE]
    places = find_places(make_spots(100, serial, HOT, sizes=sizes, panel=1))
    assert found(places) == set(HOT)
    assert set(places.panel) == {1}


def test_what_is_near():
    near = draw_near((20, 30), np.array([[0, 29], [10, 10]]))
    assert near.sum() == (REACH + 1) ** 2 + (2 * REACH + 1) ** 2
    panel, pixel = np.array([0, 1, 1]), np.array([[10, 12], [10, 12], [10, 14]])
    is_near = find_near(
        [(20, 30), (20, 30)], np.array([1]), np.array([[10, 10]]), panel, pixel
    )
    assert is_near.tolist() == [False, True, False]


def test_scores_have_the_most_frequent():
    places = find_places(make_spots(100, serial, SCRATCH * 3, sizes=[SIZE]))
    listed = places.as_json()
    assert listed[0] == {
        "panel": 0,
        "slow": 200,
        "fast": 100,
        "images": 100,
        "in_doubt": False,
    }
