from __future__ import annotations

import bz2
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
from dxtbx.format.image import ImageBool, ImageDouble
from dxtbx.imageset import ImageSequence, ImageSet, ImageSetData, MemReader
from dxtbx.masking import GoniometerShadowMasker
from dxtbx.model import BeamFactory, GoniometerFactory, Scan
from dxtbx.model.experiment_list import ExperimentListFactory
from scitbx.array_family import flex

from dials_cnn_screen.images.read import read_frame


class ImageInMemory:
    """What a MemReader reads: stands for a format class."""

    def __init__(self, panels):
        self._panels = tuple(flumpy.from_numpy(panel) for panel in panels)

    def get_raw_data(self):
        return self._panels


def make_imageset(detector, *images, s0=(0, 0, -1)):
    """Stills, each a list of arrays (slow, fast), one for each panel."""
    data = ImageSetData(MemReader([ImageInMemory(panels) for panels in images]), None)
    imageset = ImageSet(data)
    for i in range(len(images)):
        imageset.set_detector(detector, i)
        imageset.set_beam(BeamFactory.make_beam(unit_s0=tuple(s0), wavelength=1), i)
    return imageset


def flat(x=-1.0, y=1.5, z=-100.0):
    """Frame of a panel that stands normal to the beam, fast +x and slow -y."""
    return (1, 0, 0), (0, -1, 0), (x, y, z)


def numbered(n_panels, size=(20, 30), dtype=np.int32):
    """Panels whose pixels are numbered from 1 on, through all panels."""
    shape = (n_panels, size[1], size[0])
    return list(np.arange(1, np.prod(shape) + 1, dtype=dtype).reshape(shape))


# One panel


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_single_panel_is_left_as_it_is(dtype, make_detector):
    image = numbered(1, dtype=dtype)
    frame = read_frame(make_imageset(make_detector(flat()), image), 0)
    assert frame.data.dtype == np.float32
    assert frame.mask.dtype == bool
    np.testing.assert_array_equal(frame.data, image[0])
    assert frame.mask.all()
    assert frame.beam_centre == pytest.approx((15, 10), abs=1e-3)


def test_frames_of_different_images(make_detector):
    images = [numbered(1), [numbered(1)[0] * 2]]
    imageset = make_imageset(make_detector(flat()), *images)
    imageset.set_detector(make_detector(flat(x=-1.5)), 1)
    first, second = read_frame(imageset, 0), read_frame(imageset, 1)
    np.testing.assert_array_equal(second.data, first.data * 2)
    assert first.beam_centre == pytest.approx((15, 10), abs=1e-3)
    assert second.beam_centre == pytest.approx((15, 15), abs=1e-3)


def test_writing_into_a_frame_leaves_the_imageset_alone(make_detector):
    imageset = make_imageset(make_detector(flat()), numbered(1, dtype=np.float32))
    frame = read_frame(imageset, 0)
    frame.data[:] = -1
    frame.mask[:] = False
    again = read_frame(imageset, 0)
    assert again.data[0, 0] == 1
    assert again.mask.all()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_images_that_were_read_are_not_kept(make_detector):
    class NewImage(ImageInMemory):
        def get_raw_data(self):
            return (flumpy.from_numpy(np.ones((1000, 1000))),)

    def megabytes() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    detector = make_detector(flat(), size=(1000, 1000))
    stills = [make_imageset(detector, []) for _ in range(40)]
    for still in stills:
        still.reader()._images[0] = NewImage([])
    read_frame(stills[0], 0)
    before = megabytes()
    for still in stills:
        read_frame(still, 0)
    # One image is 8 MB.
    assert megabytes() - before < 80


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite_is_masked(dtype, make_detector):
    (image,) = numbered(1, dtype=dtype)
    image[3, 4:7] = np.nan, np.inf, -np.inf
    frame = read_frame(make_imageset(make_detector(flat()), [image]), 0)
    assert not frame.mask[3, 4:7].any()
    assert frame.mask.sum() == image.size - 3
    assert (frame.data[3, 4:7] == 0).all()


def test_too_large_for_float32_is_masked(make_detector):
    (image,) = numbered(1, dtype=np.float64)
    image[0, 0] = 1e300
    detector = make_detector(flat(), trusted_range=(-1, 1e308))
    frame = read_frame(make_imageset(detector, [image]), 0)
    assert not frame.mask[0, 0]
    assert frame.data[0, 0] == 0


def test_trusted_range_rectangles_and_user_mask_are_honoured(make_detector):
    detector = make_detector(flat(), trusted_range=(10.5, 599.5))
    detector[0].add_mask(5, 6, 9, 8)  # fast1, slow1, fast2, slow2
    imageset = make_imageset(detector, numbered(1))
    user_mask = np.ones((30, 20), bool)
    user_mask[25] = False
    imageset.external_lookup.mask.data = ImageBool(flumpy.from_numpy(user_mask))
    expected = user_mask.copy()
    expected[0, :10] = expected[29, 19] = expected[6:8, 5:9] = False
    np.testing.assert_array_equal(read_frame(imageset, 0).mask, expected)


def test_gain_and_pedestal_of_a_panel_are_applied(make_detector):
    detector = make_detector(flat(), trusted_range=(0.5, 300.5))
    detector[0].set_gain(2)
    detector[0].set_pedestal(10)
    frame = read_frame(make_imageset(detector, numbered(1)), 0)
    np.testing.assert_allclose(frame.data, (numbered(1)[0] - 10) / 2)
    assert frame.mask.sum() == 300  # the range is that of the raw values


def overloaded():
    """A panel of 10 ADU with a strong spot of 3 x 3 pixels and a hot pixel."""
    image = np.full((30, 20), 10, np.int32)
    image[10:13, 5:8] = image[20, 10] = 70000
    return image


def test_overloads_are_signal(make_detector):
    detector = make_detector(flat(), trusted_range=(-0.5, 500.5))
    frame = read_frame(make_imageset(detector, [overloaded()]), 0)
    assert np.argwhere(~frame.mask).tolist() == [[20, 10]]
    assert (frame.data[10, 5:8] == 500).all()
    assert frame.data[11, 6] == 990


def test_overloads_are_corrected(make_detector):
    detector = make_detector(flat(), trusted_range=(-0.5, 500.5))
    detector[0].set_gain(2)
    detector[0].set_pedestal(10)
    frame = read_frame(make_imageset(detector, [overloaded()]), 0)
    assert (frame.data[10, 5:8] == 245).all()
    assert frame.data[11, 6] == 490


@pytest.mark.parametrize("kind", ["rectangle", "user"])
def test_masked_overloads_stay_masked(kind, make_detector):
    detector = make_detector(flat(), trusted_range=(-0.5, 500.5))
    if kind == "rectangle":
        detector[0].add_mask(4, 9, 9, 14)  # fast1, slow1, fast2, slow2
    imageset = make_imageset(detector, [overloaded()])
    if kind == "user":
        user_mask = np.ones((30, 20), bool)
        user_mask[9:14, 4:9] = False
        imageset.external_lookup.mask.data = ImageBool(flumpy.from_numpy(user_mask))
    assert not read_frame(imageset, 0).mask[10:13, 5:8].any()


def test_overloads_in_the_shadow_of_the_goniometer(make_detector):
    """What the goniometer shades stays masked, overloads beside it do not."""
    beam = BeamFactory.make_beam(unit_s0=(0, 0, -1), wavelength=1)
    detector = make_detector(flat(), trusted_range=(-0.5, 500.5))
    # A triangle in front of the upper part of the panel at 0 degrees.
    masker = GoniometerShadowMasker(
        goniometer := GoniometerFactory.multi_axis(
            flex.vec3_double([(1, 0, 0)]), flex.double([0]), flex.std_string(["PHI"]), 0
        ),
        flex.vec3_double([(-9, 0.4, -50), (9, 0.4, -50), (0, 9, -50)]),
        flex.size_t([0, 0, 0]),
    )
    image = overloaded()
    image[2:5, 5:8] = 70000
    sequence = ImageSequence(
        ImageSetData(MemReader([ImageInMemory([image])] * 2), masker),
        beam=beam,
        detector=detector,
        goniometer=goniometer,
        scan=Scan((1, 2), (0.0, 180.0)),
    )
    shadowed, turned = read_frame(sequence, 0), read_frame(sequence, 1)
    dxtbx_mask = flumpy.to_numpy(sequence.get_mask(0)[0])
    assert not dxtbx_mask[:6, 3:10].any()
    assert dxtbx_mask[15:].sum() == 15 * 20 - 1
    assert not shadowed.mask[2:5, 5:8].any()
    assert shadowed.mask[10:13, 5:8].all()
    assert turned.mask[2:5, 5:8].all()


def test_gain_and_pedestal_maps_are_applied(make_detector):
    imageset = make_imageset(make_detector(flat()), numbered(1))
    gain, pedestal = np.full((30, 20), 4.0), np.full((30, 20), 1.0)
    imageset.external_lookup.gain.data = ImageDouble(flumpy.from_numpy(gain))
    imageset.external_lookup.pedestal.data = ImageDouble(flumpy.from_numpy(pedestal))
    frame = read_frame(imageset, 0)
    np.testing.assert_allclose(frame.data, (numbered(1)[0] - 1) / 4)


@pytest.mark.parametrize(
    ("panel", "beam_centre"),
    [
        (flat(x=50), (15, -500)),  # to the side of the beam
        (flat(z=100), (15, 10)),  # behind the sample
        # swung by 45 degrees about the vertical; the beam is in the panel's plane at
        # 5 mm along fast and 1 mm along slow
        (((0.5**0.5, 0, -(0.5**0.5)), (0, -1, 0), (-(12.5**0.5), 1, -100)), (10, 50)),
    ],
)
def test_beam_centre_where_the_beam_misses_the_panel(panel, beam_centre, make_detector):
    imageset = make_imageset(make_detector(panel), numbered(1))
    assert read_frame(imageset, 0).beam_centre == pytest.approx(beam_centre, abs=1e-3)


def test_beam_centre_is_where_dxtbx_has_it(make_detector):
    detector = make_detector(((0.96, 0.28, 0), (0.28, -0.96, 0), (-1, 1, -50)))
    imageset = make_imageset(detector, numbered(1), s0=(0.002, -0.003, -1))
    slow, fast = read_frame(imageset, 0).beam_centre
    s0 = imageset.get_beam(0).get_s0()
    assert (fast, slow) == pytest.approx(detector[0].get_beam_centre_px(s0), abs=1e-3)


def test_panel_parallel_to_the_beam(make_detector):
    detector = make_detector(((0, 0, -1), (0, -1, 0), (50, 1, -100)))
    with pytest.raises(ValueError, match="parallel to the detector panel"):
        read_frame(make_imageset(detector, numbered(1)), 0)


def test_image_without_models():
    data = ImageSetData(MemReader([ImageInMemory(numbered(1))]), None)
    with pytest.raises(ValueError, match=r"Image 0 has no detector.*dials\.import"):
        read_frame(ImageSet(data), 0)


def test_sequence_of_stills(make_detector):
    images = [numbered(1), [numbered(1)[0] + 1]]
    sequence = ImageSequence(
        ImageSetData(MemReader([ImageInMemory(i) for i in images]), None),
        beam=BeamFactory.make_beam(unit_s0=(0, 0, -1), wavelength=1),
        detector=make_detector(flat()),
        goniometer=GoniometerFactory.single_axis(),
        scan=Scan((1, 2), (0.0, 0.0)),
    )
    frame = read_frame(sequence, 1)
    np.testing.assert_array_equal(frame.data, images[1][0])
    assert frame.beam_centre == pytest.approx((15, 10), abs=1e-3)


# Several panels: images/panels.py puts them together


def test_masks_and_values_of_panels_travel_with_them(make_detector):
    detector = make_detector(flat(-2.5, 1.5), flat(0.5, 1.5), trusted_range=(5.5, 1e6))
    left, right = numbered(2, dtype=np.float64)
    right[7, 8] = np.nan
    frame = read_frame(make_imageset(detector, [left, right]), 0)
    assert not frame.mask[0, :5].any()
    assert not frame.mask[7, 38]
    assert frame.mask.sum() == 2 * 600 - 6
    assert frame.data[7, 38] == 0


# Real images


def open_image(path):
    return ExperimentListFactory.from_filenames([str(path)])[0].imageset


def test_real_cspad_of_64_panels(real_images):
    imageset = open_image(real_images / "cspad_lcls_thermolysin_hit.cbf")
    frame = read_frame(imageset, 0)
    used = sum(mask.count(True) for mask in imageset.get_mask(0))
    assert frame.mask.sum() == pytest.approx(used, rel=1e-3)
    assert frame.data.shape == (1724, 1728)
    assert frame.beam_centre == pytest.approx((862, 864), abs=10)
    panels = [flumpy.to_numpy(panel) for panel in imageset.get_raw_data(0)]
    total = sum(float(panel[panel > -5000].sum()) for panel in panels)
    assert frame.data[frame.mask].sum(dtype=float) == pytest.approx(total, rel=0.01)


def test_real_rayonix_with_its_mask(real_images):
    imageset = open_image(real_images / "rayonix_mx340_lcls_hit.cbf")
    with open(real_images / "rayonix_mx340_mask.pickle", "rb") as file:
        (mask,) = pickle.load(file)
    imageset.external_lookup.mask.data = ImageBool(mask)
    frame = read_frame(imageset, 0)
    assert frame.data.shape == (1920, 1920)
    np.testing.assert_array_equal(frame.mask, flumpy.to_numpy(mask))
    assert frame.beam_centre == pytest.approx((960, 960), abs=1e-3)


def test_real_pilatus_still_with_a_scan(real_images, tmp_path):
    path = tmp_path / "thau_3_2_0014.cbf"
    path.write_bytes(bz2.decompress((real_images / f"{path.name}.bz2").read_bytes()))
    imageset = open_image(path)
    assert isinstance(imageset, ImageSequence)
    frame = read_frame(imageset, 0)
    assert frame.data.shape == (2527, 2463)
    assert frame.beam_centre == pytest.approx((1306.96, 1261.61), abs=0.01)
    raw = flumpy.to_numpy(imageset.get_raw_data(0)[0])
    np.testing.assert_array_equal(frame.data, raw)
    assert not frame.mask[raw < 0].any()
    assert frame.mask.mean() == pytest.approx(0.915, abs=0.005)
