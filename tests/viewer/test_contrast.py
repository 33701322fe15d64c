from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("wx")

from dials.util.image_viewer.slip_viewer import tile_generation
from dxtbx import flumpy
from dxtbx.model import BeamFactory, Detector

from dials_cnn_screen.viewer.contrast import display_level, fixed_contrast

BEAM = BeamFactory.simple(1.0)


def make_panel(shape=(90, 117), background=50.0, seed=0):
    """A panel whose edges are no multiples of eight, with one pixel of known value."""
    pixels = np.random.default_rng(seed).poisson(background, shape).astype(np.float64)
    pixels[40, 40] = 60.0
    return pixels


def draw(*panels, brightness):
    """What the viewer shows of an image: grey levels (slow, fast), 255 is white.

    Panels come one below the other, each filled up to 96 x 120 pixels.
    """
    detector = Detector()
    for i, pixels in enumerate(panels):
        panel = detector.add_panel()
        panel.set_name(str(i))
        panel.set_pixel_size((0.1, 0.1))
        panel.set_image_size(pixels.shape[::-1])
        panel.set_trusted_range((-1, 60000))
        panel.set_local_frame((1, 0, 0), (0, -1, 0), (0, 20.0 * i, -100))
    image = tile_generation.get_flex_image_multipanel(
        brightness=brightness,
        detector=detector,
        image_data=tuple(map(flumpy.from_numpy, panels)),
        beam=BEAM,
    )
    image.setWindow(0.0, 0.0, 1)
    image.adjust(color_scheme=0)
    return flumpy.to_numpy(image.channel(0)).copy()


def level_of(*panels):
    return display_level(list(map(flumpy.from_numpy, panels)))


@pytest.mark.parametrize("background", [25.0, 50.0, 4000.0])
def test_level_is_the_viewers(background):
    pixels = make_panel(background=background)
    level = level_of(pixels)
    assert level == pytest.approx(np.percentile(pixels, 90), rel=0.1)
    shade = 0.4 * 60 / level
    assert draw(pixels, brightness=1.0)[40, 40] == pytest.approx(
        256 * (1 - shade), abs=1.1
    )


def test_level_of_several_panels_is_the_viewers():
    panels = make_panel(background=30), make_panel((64, 64), background=80, seed=1)
    shade = 0.4 * 60 / level_of(*panels)
    grey = draw(*panels, brightness=1.0)
    assert grey[40, 40] == grey[96 + 40, 40]
    assert grey[40, 40] == pytest.approx(256 * (1 - shade), abs=1.1)


def test_equal_values_are_equally_dark():
    first, second = make_panel(background=50), make_panel(background=20, seed=1)
    grey = draw(first, brightness=0.3)[40, 40]
    assert draw(second, brightness=0.3)[40, 40] < grey - 10
    level = level_of(first)
    with fixed_contrast(lambda panels: level):
        assert draw(first, brightness=0.3)[40, 40] == grey
        assert draw(second, brightness=0.3)[40, 40] == pytest.approx(grey, abs=1)
        assert draw(second, brightness=0.6)[40, 40] < grey  # brightness still works
    assert draw(second, brightness=0.3)[40, 40] < grey - 10


def test_empty_frame_is_white_and_no_error():
    with fixed_contrast(lambda panels: 50.0):
        empty = np.zeros((90, 117))
        empty[40, 40] = 0.5
        assert level_of(empty) == 0
        grey = draw(empty, brightness=1.0)
    assert grey[0, 0] == 255
    assert grey[40, 40] == pytest.approx(256 * (1 - 0.5 * 0.4 / 50), abs=1.1)


def test_without_a_level_the_viewer_scales_as_ever():
    pixels = make_panel()
    before = draw(pixels, brightness=0.5)
    with fixed_contrast(lambda panels: None):
        np.testing.assert_array_equal(draw(pixels, brightness=0.5), before)
