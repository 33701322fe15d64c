"""What the tool wants of a window of dials.image_viewer; only this knows how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import wx

from dials_cnn_screen.stills import find_image
from dials_cnn_screen.viewer.contrast import display_level, fixed_contrast
from dials_cnn_screen.viewer.view import View

# Path of an image's file, its number there from 1.
Image = tuple[str, int]


class StockViewer:
    """A SpotFrame of dials.image_viewer and the images in it."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self._levels: dict[str, float] = {}
        self._wrappers: dict[Image, Any] = {}
        for wrapper in frame.images:
            self._wrappers.setdefault(_identify(wrapper), wrapper)

    @property
    def images(self) -> list[Image]:
        """The images that the viewer was opened on, each once, in its order."""
        return list(self._wrappers)

    @property
    def selected(self) -> Image:
        """The image that the viewer is at."""
        return _identify(self.frame.images.selected)

    @property
    def is_drawn(self) -> bool:
        """Whether that is the image on the screen; it is not if it can't be read."""
        drawn = self.frame._img
        return drawn is not None and drawn._raw is self.frame.images.selected

    def show(self, image: Image) -> None:
        """Read and draw an image. Raises whatever dxtbx does when it can't be read."""
        before = self.frame.images.selected
        wrapper = self._wrappers[image]
        self.frame.load_image(wrapper)
        if before is not None and before.image_set is not wrapper.image_set:
            # An imageset keeps its last image: of 2000 sets of one, all of them.
            before.image_set.clear_cache()

    def read_ahead(self, image: Image) -> None:
        """Read an image into its imageset, which has it at hand then."""
        wrapper = self._wrappers[image]
        wrapper.image_set.get_corrected_data(wrapper.index)

    @contextmanager
    def docked(self, panel: wx.Window) -> Iterator[None]:
        """Meanwhile the panel stands below the image."""
        self.frame.sizer.Add(panel, 0, wx.EXPAND)
        self.frame.Layout()
        yield
        if not self.frame.IsBeingDeleted():
            wx.CallAfter(self.frame.Layout)

    @contextmanager
    def fixed_contrast(self) -> Iterator[None]:
        """Meanwhile equal pixel values are equally dark on all images."""

        def level(panels: Sequence[Any]) -> float | None:
            if self.frame.settings.display != "image":
                return None
            kind = _describe(panels)
            if kind not in self._levels and (own := display_level(panels)) > 0:
                self._levels[kind] = own
            return self._levels.get(kind)

        with fixed_contrast(level):
            yield

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is seen of the image, pixels of the screen."""
        return self.frame.pyslip.view_width, self.frame.pyslip.view_height

    @property
    def view(self) -> View:
        """How the image is looked at now."""
        pyslip = self.frame.pyslip
        view = View(
            zoom=pyslip.level,
            brightness=self.frame.settings.brightness,
            levels=dict(self._levels),
        )
        beam = self._find_beam()
        if beam is None:
            return view
        x, y = pyslip.ConvertGeo2View(beam)
        place = (round(x / pyslip.view_width, 4), round(y / pyslip.view_height, 4))
        return replace(view, beam=place)

    @view.setter
    def view(self, view: View) -> None:
        """Look at the image so."""
        self._set_brightness(view)
        pyslip = self.frame.pyslip
        now = self.view
        if (now.zoom, now.beam) != (view.zoom, view.beam):
            pyslip.ZoomToLevel(view.zoom)
            if beam := self._find_beam():
                x = (beam[0] - pyslip.map_llon) * pyslip.ppd_x
                y = (pyslip.map_tlat - beam[1]) * pyslip.ppd_y
                pyslip.view_offset_x = round(x - view.beam[0] * pyslip.view_width)
                pyslip.view_offset_y = round(y - view.beam[1] * pyslip.view_height)
                pyslip.RecalcViewLonLatLimits()
            pyslip.Update()

    def _set_brightness(self, view: View) -> None:
        frame, tiles = self.frame, self.frame.pyslip.tiles
        levels = {**self._levels, **view.levels}
        if (levels, view.brightness) == (self._levels, frame.settings.brightness):
            return
        self._levels = levels
        frame.settings.brightness = view.brightness
        frame.settings_frame.panel.collect_values()  # its slider follows
        tiles.update_brightness(view.brightness, frame.settings.color_scheme)
        frame.pyslip.Update()

    def _find_beam(self) -> tuple[float, float] | None:
        """The beam on the viewer's map; None without a geometry."""
        frame, tiles = self.frame, self.frame.pyslip.tiles
        if abs(frame.get_detector()[0].get_distance()) == 0:
            return None
        panel, fast, slow = frame.get_beam_center_px()
        y, x = tiles.flex_image.tile_readout_to_picture(panel, slow - 0.5, fast - 0.5)
        return tiles.picture_fast_slow_to_map_relative(x, y)


def _identify(wrapper: Any) -> Image:
    """The image of a chooser_wrapper; its own name counts from 1 in each imageset."""
    return find_image(wrapper.image_set, wrapper.index)


def _describe(panels: Sequence[Any]) -> str:
    """The kind of detector that an image is of, such as 64 panels of 185 x 194."""
    slow, fast = panels[0].focus()
    return f"{len(panels)} panels of {slow} x {fast}"
