from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("wx")

from dials.util.image_viewer.slip_viewer import tile_generation
from dxtbx import flumpy
from dxtbx.model import BeamFactory, Detector

from dials_cnn_screen.viewer.contrast import (
    choose_sample,
    display_level,
    keep_level,
    level_of_run,
)
from dials_cnn_screen.viewer.drawing import Drawer, find_levels

BEAM = BeamFactory.simple(1.0)
KIND = "1 panels of 90 x 117"


def make_panel(shape=(90, 117), background=50.0, seed=0):
    """A panel whose edges are no multiples of eight, with one pixel of known value."""
    pixels = np.random.default_rng(seed).poisson(background, shape).astype(np.float64)
    pixels[40, 40] = 60.0
    return pixels


def make_detector(*panels):
    """One panel below the other."""
    detector = Detector()
    for i, pixels in enumerate(panels):
        panel = detector.add_panel()
        panel.set_name(str(i))
        panel.set_pixel_size((0.1, 0.1))
        panel.set_image_size(pixels.shape[::-1])
        panel.set_trusted_range((-1, 60000))
        panel.set_local_frame((1, 0, 0), (0, -1, 0), (0, 20.0 * i, -100))
    return detector


def make_flex_image(*panels, brightness):
    """As the viewer does for each image."""
    return tile_generation.get_flex_image_multipanel(
        brightness=brightness,
        detector=make_detector(*panels),
        image_data=tuple(map(flumpy.from_numpy, panels)),
        beam=BEAM,
    )


def draw(*panels, brightness):
    """What the viewer shows of an image: grey levels (slow, fast), 255 is white.

    Panels come one below the other, each filled up to 96 x 120 pixels.
    """
    image = make_flex_image(*panels, brightness=brightness)
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


class Frame:
    """What a Drawer looks at of the viewer's window, beside its view."""

    def __init__(self, **settings):
        usual = {"display": "image", "brightness": 30, "color_scheme": 0}
        self.settings = SimpleNamespace(image_type="corrected", **usual | settings)
        self.params = SimpleNamespace(show_mask=False)
        self.images = SimpleNamespace(selected=None)
        self.pyslip = SimpleNamespace(
            tiles=SimpleNamespace(zoom_level=1),
            view_offset_x=0,
            view_offset_y=100,
            view_width=300,
            view_height=200,
        )

    def get_image_data(self, image):
        return image.data


def test_equal_values_are_equally_dark():
    first, second = make_panel(background=50), make_panel(background=20, seed=1)
    grey = draw(first, brightness=0.3)[40, 40]
    assert draw(second, brightness=0.3)[40, 40] < grey - 10
    drawer = Drawer(Frame())
    drawer.levels = {KIND: level_of(first)}
    with drawer.active():
        assert draw(first, brightness=0.3)[40, 40] == grey
        assert draw(second, brightness=0.3)[40, 40] == pytest.approx(grey, abs=1)
        assert draw(second, brightness=0.6)[40, 40] < grey  # brightness still works
    assert draw(second, brightness=0.3)[40, 40] < grey - 10


def test_level_that_was_stored_is_kept():
    pixels = make_panel(background=50)
    drawer = Drawer(Frame())
    drawer.levels = {KIND: 2 * level_of(pixels)}
    with drawer.active():
        half = draw(pixels, brightness=0.6)
    np.testing.assert_allclose(half, draw(pixels, brightness=0.3), atol=1)


def test_empty_image_is_white():
    empty = np.zeros((90, 117))
    empty[40, 40] = 0.5
    assert level_of(empty) == 0
    drawer = Drawer(Frame())
    level = level_of(make_panel())
    drawer.levels = {KIND: level}
    with drawer.active():
        grey = draw(empty, brightness=1.0)
    assert grey[0, 0] == 255
    assert grey[40, 40] == pytest.approx(256 * (1 - 0.5 * 0.4 / level), abs=1.1)


def test_filters_are_drawn_as_ever():
    pixels = make_panel()
    before = draw(pixels, brightness=0.5)
    drawer = Drawer(Frame(display="threshold"))
    drawer.levels = {KIND: 1.0}
    with drawer.active():
        np.testing.assert_array_equal(draw(pixels, brightness=0.5), before)


def test_image_drawn_ahead_is_the_same_and_serves_once(monkeypatch):
    first, second = make_panel(background=50), make_panel(background=20, seed=1)
    frame = Frame()
    drawer = Drawer(frame)
    image = SimpleNamespace(
        data=(flumpy.from_numpy(second),),
        get_detector=lambda: make_detector(second),
        get_beam=lambda: BEAM,
    )

    def tile(flex_image, zoom, x, y):
        flex_image.setZoom(zoom)
        flex_image.setWindowCart(y, x, 256.0 / flex_image.size1() / 2**zoom)
        flex_image.prep_string()
        assert (flex_image.ex_size1(), flex_image.ex_size2()) == (256, 256)
        return flex_image.as_bytes()

    drawer.levels = {KIND: level_of(first)}
    with drawer.active():
        expected = make_flex_image(second, brightness=0.3)
        expected.adjust(color_scheme=0)
        steps = sum(1 for _ in drawer.draw_ahead(image))
        assert steps == 3 + 2 * 2  # the window has 2 x 2 tiles
        frame.images.selected = image
        ahead = make_flex_image(first, brightness=0.3)  # its pixels are not looked at
        ahead.adjust(color_scheme=0)
        for zoom, x, y in ((1, 0, 0), (1, 1, 1), (1, 0, 2), (0, 0, 0)):
            assert tile(ahead, zoom, x, y) == tile(expected, zoom, x, y)
        again = make_flex_image(first, brightness=0.3)
        assert tile(again, 1, 0, 0) != tile(expected, 1, 0, 0)
        # Not if the contrast has been changed meanwhile.
        list(drawer.draw_ahead(image))
        frame.settings.brightness = 60
        darker = make_flex_image(second, brightness=0.6)
        darker.adjust(color_scheme=0)
        assert tile(darker, 1, 0, 0) != tile(expected, 1, 0, 0)


class Image:
    """An image as the viewer has it; None as pixels cannot be read."""

    def __init__(self, *panels):
        self.panels = panels
        self.image_set, self.index = self, 0

    def get_detector(self):
        return make_detector(*(make_panel() if p is None else p for p in self.panels))

    def get_corrected_data(self, index):
        if self.panels[0] is None:
            raise RuntimeError("broken")
        return tuple(map(flumpy.from_numpy, self.panels))


def images(*backgrounds):
    """Images of these backgrounds, photons; None cannot be read."""
    return [Image(None if b is None else make_panel(background=b)) for b in backgrounds]


@pytest.mark.parametrize(
    "run",
    [
        [1e-4, 50, 50, 50, 50],  # the first one without beam
        [1e-4, 0.01, 50, 50, None, 1e-4],
        [None, 50, 50, 50, 60000, 50],
        [0.01, 50] * 30,
    ],
)
def test_level_is_of_several_images(run):
    (level,) = find_levels(images(*run), {}).values()
    assert level == pytest.approx(level_of(make_panel(background=50)), rel=0.1)


def test_level_of_each_kind_of_detector():
    two = Image(make_panel((64, 64), background=200), make_panel((64, 64)))
    levels = find_levels([*images(1e-4, 50, 50, 50), two], {"another": 3.0})
    assert levels == {
        KIND: level_of(make_panel(background=50)),
        "2 panels of 64 x 64": level_of(*two.panels),
        "another": 3.0,
    }


def test_images_without_level_set_none():
    empty = Image(np.zeros((90, 117)))
    nan = Image(np.full((90, 117), np.nan))
    assert find_levels([empty, nan, *images(None)], {}) == {}
    assert find_levels([], {}) == {}
    assert level_of_run([0, float("nan"), float("inf")]) is None


@pytest.mark.parametrize(("stored", "kept"), [(0.1, False), (20.0, True), (3e3, False)])
def test_stored_level_is_kept_unless_it_is_absurd(stored, kept):
    of_run = level_of(make_panel(background=50))
    expected = {KIND: stored if kept else of_run}
    assert find_levels(images(50, 50), {KIND: stored}) == expected
    assert keep_level(None, of_run) == of_run


def test_sample_is_spread_over_the_run():
    assert choose_sample(0) == []
    assert choose_sample(1) == [0]
    assert choose_sample(3) == [0, 1, 2]
    sample = choose_sample(1000)
    assert (len(sample), sample[0], sample[4], sample[-1]) == (9, 0, 500, 999)
