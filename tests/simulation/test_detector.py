from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dials_cnn_screen.simulation.detector import (
    pixel_area_map,
    pulse_map,
    radius_map,
    resolution_radius,
    tile_map,
    usable_pixels,
)
from dials_cnn_screen.simulation.electronics import excess_charge, photons_to_adu
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.point_spread import blur
from dials_cnn_screen.simulation.tiling import cspad_areas

CXIDB76 = Path(__file__).resolve().parents[3] / "shared" / "cxidb76"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def quiet(detector, **changes):
    """The detector without dark noise."""
    return replace(detector, dark_noise=0.0, **changes)


# The CSPAD's layout


def test_64_asics_of_185_by_194_within_the_array():
    areas = np.array(cspad_areas())
    assert areas.shape == (64, 4)
    assert areas.min() >= 0
    assert areas.max() <= 1765
    sizes = np.sort(areas[:, 2:] - areas[:, :2], axis=1)
    assert (sizes == [185, 194]).all()


def test_asics_do_not_overlap():
    covered = np.zeros((1765, 1765), int)
    for y0, x0, y1, x1 in cspad_areas():
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1
    assert covered.sum() == 64 * 185 * 194


def test_the_two_asics_of_a_module_are_three_pixels_apart():
    areas = cspad_areas()
    for (y0, x0, y1, x1), (v0, u0, v1, u1) in zip(areas[::2], areas[1::2], strict=True):
        assert (v0 - y1, x0, x1) == (3, u0, u1) or (u0 - x1, y0, y1) == (3, v0, v1)


def test_asics_are_where_the_deposited_mask_has_them():
    easy_pickle = pytest.importorskip("libtbx.easy_pickle")
    flumpy = pytest.importorskip("dxtbx.flumpy")
    path = CXIDB76 / "annotation" / "LG36" / "mask2.pickle"
    if not path.is_file():
        pytest.skip(f"no deposited mask {path}")
    (mask,) = easy_pickle.load(str(path))
    mask = flumpy.to_numpy(mask)
    # The mask leaves out the ASICs' borders and the shadow at the bottom as well.
    inner, outer = np.zeros((2, *mask.shape), bool)
    for y0, x0, y1, x1 in cspad_areas():
        inner[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = True
        outer[y0:y1, x0:x1] = True
    lit = mask.shape[0] - EXPERIMENTS["LG36"].detector.shadowed_rows
    assert not mask[~outer].any()
    # A few pixels within are dead.
    assert mask[:lit][inner[:lit]].mean() > 0.97
    edges = outer & ~np.pad(outer, 1)[2:, 1:-1] | outer & ~np.pad(outer, 1)[:-2, 1:-1]
    assert mask[edges].mean() < 0.01


# Maps


def test_tiles_of_a_pad(pad):
    tiles = tile_map(pad).numpy()
    assert tiles[10, 10] == 0
    assert tiles[89, 99] == 0
    assert tiles[50, 103] == 1
    assert tiles[282, 89] == 3
    assert tiles[9, 10] == tiles[50, 101] == tiles[191, 50] == -1
    assert (tiles >= 0).sum() == 4 * 80 * 90


def test_tiles_of_a_ccd_are_quadrants_with_a_hole(ccd):
    tiles = tile_map(ccd).numpy()
    assert tiles[[0, 0, 199, 199], [0, 239, 0, 239]].tolist() == [0, 1, 2, 3]
    assert tiles[100, 125] == -1
    assert tiles[100, 127] == 3
    x, y = np.meshgrid(np.arange(-9.5, 10), np.arange(-9.5, 10))
    assert (tiles < 0).sum() == (np.hypot(x, y) < 6.5).sum()


def test_radius_is_measured_from_pixel_centres(ccd):
    radius = radius_map(ccd)
    assert radius[100, 120] == pytest.approx(math.sqrt(0.5))
    assert radius[0, 120] == pytest.approx(math.hypot(99.5, 0.5))


def test_facing_borders_of_a_module_count_twice(pad):
    area = pixel_area_map(pad).numpy()
    assert (area[10:90, 99] == 2).all()
    assert (area[10:90, 103] == 2).all()
    assert (area[189, 10:90] == 2).all()
    assert (area[193, 10:90] == 2).all()
    assert (area == 2).sum() == 4 * 80
    assert (area[area != 2] == 1).all()


def test_a_ccd_has_no_borders(ccd):
    assert (pixel_area_map(ccd) == 1).all()


def test_resolution_radius_by_braggs_law(pad):
    two_theta = 2 * math.asin(1.3 / 6.4)
    radius = resolution_radius(pad, 3.2, 100.0, 1.3)
    assert radius == pytest.approx(100 * math.tan(two_theta) / 0.7)
    # 2 theta is 90 degrees from wavelength / sqrt(2) on.
    assert resolution_radius(pad, 0.91, 100.0, 1.3) == math.inf


# Point spread


def spread_of_one_photon(psf, size=129):
    photons = torch.zeros(size, size)
    photons[size // 2, size // 2] = 1
    return blur(photons, psf).double()


@pytest.mark.parametrize("psf", [0.2, 0.85, 3.0])
def test_blur_conserves_photons_within(psf):
    assert float(spread_of_one_photon(psf).sum()) == pytest.approx(1, abs=1e-4)


def test_blur_of_the_edge_loses_half():
    photons = torch.zeros(129, 129)
    photons[0] = 1
    total = float(blur(photons, 0.85)[:, 40:-40].sum()) / 49
    share = float(spread_of_one_photon(0.85).sum(dim=1)[64:].sum())
    assert total == pytest.approx(share, abs=1e-4)
    assert 0.5 < share < 0.9


def test_blur_leaves_an_even_level():
    spread = blur(torch.full((100, 120), 50.0), 0.85)
    np.testing.assert_allclose(spread[33:-33, 33:-33], 50.0, rtol=1e-4)


def test_profile_is_that_of_holton_et_al():
    g = 0.85
    spread = spread_of_one_photon(g)[64, 64:].numpy()
    # The profile cut to a square of 65 pixels, integrated over a pixel by 201 x 201.
    fine = (np.arange(201) - 100) / 201

    def pixel(x):
        r2 = np.add.outer(fine**2, (x + fine) ** 2)
        return np.mean(g / (2 * np.pi * (r2 + g * g) ** 1.5))

    a = 32.5
    cut = 4 * math.atan(a * a / (g * math.sqrt(2 * a * a + g * g))) / (2 * math.pi)
    expected = [pixel(x) / cut for x in (0, 1, 2, 5, 20, 32)]
    np.testing.assert_allclose(
        spread[[0, 1, 2, 5, 20, 32]], expected, rtol=2e-3, atol=3e-7
    )
    assert spread[33] == pytest.approx(0, abs=3e-7)


def test_blur_is_symmetric():
    spread = spread_of_one_photon(0.85, 71)
    np.testing.assert_allclose(spread, spread.T, atol=1e-6)
    np.testing.assert_allclose(spread, spread.flip(0), atol=1e-6)


# Electronics


def test_gain_and_pedestal(ccd):
    detector = quiet(ccd, gain=20.0)
    image = photons_to_adu(torch.full(ccd.shape, 100.0), detector, 0.0, generator())
    assert image.dtype == torch.int32
    active = image[tile_map(ccd) >= 0].double()
    # Pixels differ by 2%, tiles by up to 1% on average.
    assert float(active.median()) == pytest.approx(20 * 100 + 10, rel=0.03)
    assert 0.02 < float(active.std()) / 2000 < 0.05


def test_tiles_of_a_pad_differ(pad):
    detector = quiet(pad, saturation=10**6)
    image = photons_to_adu(torch.full(pad.shape, 1000.0), detector, 0.0, generator(1))
    tiles = tile_map(pad)
    means = torch.stack([image[tiles == t].double().mean() for t in range(4)])
    assert 0.005 < float(means.std() / means.mean()) < 0.2


def test_dark_noise_and_pedestal(ccd):
    detector = replace(ccd, dark_noise=8.0, pedestal=100.0)
    image = photons_to_adu(torch.zeros(ccd.shape), detector, 0.0, generator())
    tiles = tile_map(ccd)
    for tile in range(4):
        values = image[tiles == tile].double()
        # Half the spread between the quantiles of 16 and 84% is 1 sd.
        low, high = torch.quantile(values, torch.tensor([0.16, 0.84]).double())
        assert 4 < float(high - low) / 2 < 16
        assert float(values.median()) == pytest.approx(100, abs=10)


def test_nothing_is_read_in_hole_and_gaps(ccd, pad):
    for detector in (ccd, pad):
        image = photons_to_adu(
            torch.full(detector.shape, 50.0), detector, 0.0, generator()
        )
        assert not image[tile_map(detector) < 0].any()
        assert (image[tile_map(detector) >= 0] != 0).float().mean() > 0.99


def test_cut_at_saturation_and_at_min_trusted(pad):
    detector = replace(pad, dark_noise=400.0)
    photons = torch.zeros(pad.shape)
    photons[20:40, 20:40] = 1e6
    image = photons_to_adu(photons, detector, 0.0, generator())
    assert int(image.max()) == 14000
    assert (image[20:40, 20:40] == 14000).all()
    assert int(image.min()) == -400


def test_low_gain_pixels_step_by_seven(pad):
    photons = torch.full(pad.shape, 20.0)
    image = photons_to_adu(photons, pad, 60.0, generator())
    tiles, inside = tile_map(pad) >= 0, radius_map(pad) < 60.0
    steps = image[tiles & inside] % 7
    assert (steps == 0).float().mean() > 0.999  # but for a hot pixel
    outside = image[tiles & ~inside] % 7
    assert (outside == 0).float().mean() == pytest.approx(1 / 7, abs=0.03)


def test_hot_pixels(ccd):
    detector = quiet(
        ccd, shape=(20, 24), beam_centre=(10.0, 12.0), pedestal=0.0, min_trusted=0
    )
    detector = replace(detector, hole_radius=0.0)
    counts = []
    for seed in range(400):
        image = photons_to_adu(torch.zeros(20, 24), detector, 0.0, generator(seed))
        counts.append(int((image > 0).sum()))
        assert int(image[image > 0].sum()) >= 10 * 1.5 * counts[-1]
    # Poisson of mean 1; its mean square is 2.
    assert np.mean(counts) == pytest.approx(1, abs=0.2)
    assert np.mean(np.square(counts)) == pytest.approx(2, abs=0.6)


def test_electronics_leave_the_photons_as_they_are(ccd):
    photons = torch.full(ccd.shape, 5.0)
    first = photons_to_adu(photons, ccd, 0.0, generator(3))
    assert (photons == 5).all()
    assert torch.equal(first, photons_to_adu(photons, ccd, 0.0, generator(3)))
    assert not torch.equal(first, photons_to_adu(photons, ccd, 0.0, generator(4)))


def test_excess_charge_is_glow_and_pulses(pad):
    defects = replace(
        pad.defects, glow=0.5, pulses=0.01, pulse_charge=3.0, pulse_texture=1.0
    )
    detector = replace(pad, defects=defects)
    expected = torch.full(pad.shape, 4.0)
    charge = excess_charge(expected, detector, generator())
    struck = charge > 2.0
    assert (charge[~struck] == 2.0).all()
    assert float(struck.double().mean()) == pytest.approx(0.04, rel=0.2)
    heights = charge[struck].double() - 2.0
    # Exponential: the standard deviation is the mean.
    assert float(heights.mean()) == pytest.approx(3.0, rel=0.1)
    assert float(heights.std()) == pytest.approx(3.0, rel=0.2)
    other = excess_charge(expected, detector, generator(1))
    assert not torch.equal(charge, other)


def test_pulses_come_in_areas(pad):
    defects = replace(pad.defects, pulses=0.01, pulse_texture=1.0)
    rate = pulse_map(replace(pad, defects=defects)).double()
    assert float(rate.mean()) == pytest.approx(0.01)
    assert float(rate.std() / rate.mean()) > 0.3
    # Neighbours have nearly the same.
    assert float((rate[1:] / rate[:-1] - 1).abs().max()) < 0.4


# Mask


def test_usable_pixels_of_a_pad(pad):
    image = np.zeros(pad.shape, np.int32)
    image[20, 20], image[21, 21], image[22, 22] = -401, 14000, -400
    mask = usable_pixels(pad, image)
    assert mask.sum() == 4 * 78 * 88 - 1
    assert not mask[20, 20]
    assert mask[21, 21]  # overloaded: signal
    assert mask[22, 22]
    assert not mask[10, 50]
    assert not mask[50, 99]
    assert mask[11, 11]


def test_usable_pixels_of_a_ccd(ccd):
    image = np.full(ccd.shape, 10, np.int32)
    image[90:110, 110:130] = 0
    image[0, 0] = 65535
    mask = usable_pixels(ccd, image)
    assert mask.sum() == 200 * 240 - 400
