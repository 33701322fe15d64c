"""A window of dials.image_viewer; only this module and drawing.py know its inside."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import wx
from dials.util.image_viewer.spotfinder_frame import SpotFrame
from dials.util.image_viewer.spotfinder_wrap import chooser_wrapper
from dxtbx.imageset import ImageSequence
from dxtbx.model import Experiment, ExperimentList
from numpy.typing import NDArray

from dials_cnn_screen.images.panels import find_beam_centre
from dials_cnn_screen.images.stills import name_image, one_image
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.viewer.drawing import Drawer, find_levels
from dials_cnn_screen.viewer.overlay import Spots
from dials_cnn_screen.viewer.view import View

logger = logging.getLogger("dials.cnn_annotate")

# Screen pixels.
_CIRCLE_RADIUS = 12
_CIRCLE_COLOUR = "#d7191c"

_failed: set[str] = set()  # overlays that could not be drawn, each told once


class StockViewer:
    """A window of dials.image_viewer and the images in it.

    Attributes:
        frame: The window; false once it is gone.
    """

    def __init__(self, frame: SpotFrame) -> None:
        self.frame = frame
        self._drawer = Drawer(frame)
        self._circles: Any = None
        self._circled: list[tuple[float, float]] = []  # on the map
        self._read_ahead: chooser_wrapper | None = None
        self._wrappers: dict[ImageName, chooser_wrapper] = {}
        for wrapper in frame.images:
            self._wrappers.setdefault(_find_name(wrapper), wrapper)

    @property
    def names(self) -> list[ImageName]:
        """The images that the viewer was opened with, each once, in its order."""
        return list(self._wrappers)

    @property
    def experiments(self) -> ExperimentList:
        """All images, one in each experiment, without crystals."""
        experiments = ExperimentList()
        for wrapper in self._wrappers.values():
            imageset = one_image(wrapper.image_set, wrapper.index)
            scan = imageset.get_scan() if isinstance(imageset, ImageSequence) else None
            experiments.append(
                Experiment(
                    beam=wrapper.get_beam(),
                    detector=wrapper.get_detector(),
                    scan=scan,
                    imageset=imageset,
                )
            )
        return experiments

    @property
    def selected(self) -> ImageName:
        """The image that is selected in the viewer."""
        return _find_name(self.frame.images.selected)

    @property
    def is_drawn(self) -> bool:
        """Whether the selected image is displayed; it is not if it can't be read."""
        drawn = self.frame._img
        return drawn is not None and _find_name(drawn._raw) == self.selected

    def show(self, name: ImageName) -> None:
        """Read and draw an image. Raises whatever dxtbx does when it can't be read."""
        before = self.frame.images.selected
        wrapper = self._wrappers[name]
        self.frame.load_image(wrapper)
        # An imageset caches its last image: 2000 sets of one image would cache all.
        for other in (before, self._read_ahead):
            if other is not None and other.image_set is not wrapper.image_set:
                other.image_set.clear_cache()

    def draw_ahead(self, name: ImageName) -> Iterator[None]:
        """Read and draw an image off the screen, in steps, so that show is quick."""
        self._read_ahead = self._wrappers[name]
        return self._drawer.draw_ahead(self._read_ahead)

    @contextmanager
    def docked(self, panel: wx.Window) -> Iterator[None]:
        """Within this context the panel is below the image."""
        self.frame.sizer.Add(panel, 0, wx.EXPAND)
        self.frame.Layout()
        yield
        if self.frame and not self.frame.IsBeingDeleted():
            wx.CallAfter(self.frame.Layout)

    def one_contrast(self) -> AbstractContextManager[None]:
        """Within this context equal pixel values are equally dark on all images."""
        return self._drawer.active()

    @contextmanager
    def safe_overlays(self) -> Iterator[None]:
        """Within this context an overlay that can't be drawn is left out.

        Overlays of DIALS 3.12 give fractions of pixels to wx, which wants integers: an
        error there would be one of the image.
        """
        pyslip = self.frame.pyslip
        layers, draw = pyslip.layer_mapping, pyslip.Draw

        def draw_safely(dc: wx.DC) -> None:
            for layer in layers.values():
                if not hasattr(layer.painter, "__wrapped__"):
                    layer.painter = _safe(layer.painter, layer.name)
            draw(dc)

        pyslip.Draw = draw_safely
        yield
        if self.frame:
            pyslip.Draw = draw
            for layer in layers.values():
                layer.painter = getattr(layer.painter, "__wrapped__", layer.painter)

    def take_focus(self) -> None:
        """Give the image the keyboard."""
        self.frame.pyslip.SetFocus()

    def is_image_slider(self, window: wx.Window | None) -> bool:
        """Whether this is the slider of the viewer by which an image is chosen."""
        return window is not None and window.Parent is self.frame.image_chooser_panel

    def find_levels(self, stored: Mapping[str, float]) -> dict[str, float]:
        """The levels for View, from images over the run; stored ones where they fit."""
        shown = self.frame.images.selected
        with wx.BusyCursor():
            levels = find_levels(self._wrappers.values(), stored)
        for wrapper in self._wrappers.values():
            if wrapper.image_set is not shown.image_set:
                wrapper.image_set.clear_cache()
        return levels

    def circle_spots(self, spots: Spots | None) -> None:
        """Draw a circle around each spot in place of the circles drawn before."""
        pyslip = self.frame.pyslip
        if self._circles is not None:
            pyslip.DeleteLayer(self._circles)
            self._circles = None
        self._circled = []
        if spots is not None and len(spots.positions):
            self._circled = [self._on_map(*spot) for spot in self._in_picture(spots)]
            self._circles = pyslip.AddPointLayer(
                self._circled,
                renderer=self._draw_circles,
                show_levels=pyslip.tiles.levels,
                name="<cnn_annotate_layer>",
            )

    @property
    def n_in_view(self) -> int:
        """How many of the circled spots can be seen."""
        see = self.frame.pyslip.ConvertGeo2ViewMasked
        return sum(see(position) is not None for position in self._circled)

    def _in_picture(self, spots: Spots) -> list[tuple[float, float]]:
        """Positions of spots in the viewer's picture, (fast, slow) in its pixels."""
        to_picture = self.frame.pyslip.tiles.flex_image.tile_readout_to_picture
        if spots.panels is None and len(self.frame.get_detector()) > 1:
            # The frame has the same scale and axes, from another corner.
            beam = self._beam_in_picture()
            centre = find_beam_centre(self.frame.get_detector(), self.frame.get_beam())
            slow_fast = spots.positions - centre + beam[::-1]
            return [(fast, slow) for slow, fast in slow_fast.tolist()]
        panels = (
            spots.panels if spots.panels is not None else [0] * len(spots.positions)
        )
        return [
            to_picture(int(panel), slow - 0.5, fast - 0.5)[::-1]
            for panel, (slow, fast) in zip(panels, spots.positions, strict=True)
        ]

    def _draw_circles(self, dc: wx.DC, data: list, map_rel: bool) -> None:
        """Called by the viewer with the points that AddPointLayer was given."""
        dc.SetPen(wx.Pen(_CIRCLE_COLOUR, 2))
        dc.SetBrush(wx.TRANSPARENT_BRUSH)
        for longitude, latitude, *_ in data:
            x, y = self.frame.pyslip.ConvertGeo2View((longitude, latitude))
            dc.DrawCircle(int(x), int(y), _CIRCLE_RADIUS)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the visible part of the image, screen pixels."""
        return self.frame.pyslip.view_width, self.frame.pyslip.view_height

    @property
    def view(self) -> View:
        """How the image is displayed now."""
        pyslip = self.frame.pyslip
        view = View(
            zoom=pyslip.level,
            brightness=self.frame.settings.brightness,
            levels=dict(self._drawer.levels),
        )
        x, y = pyslip.ConvertGeo2View(self._on_map(*self._beam_in_picture()))
        beam = (round(x / pyslip.view_width, 4), round(y / pyslip.view_height, 4))
        return replace(view, beam=beam)

    @view.setter
    def view(self, view: View) -> None:
        """Display the image so."""
        self._set_brightness(view)
        pyslip = self.frame.pyslip
        now = self.view
        if (now.zoom, now.beam) != (view.zoom, view.beam):
            pyslip.ZoomToLevel(view.zoom)
            longitude, latitude = self._on_map(*self._beam_in_picture())
            x = (longitude - pyslip.map_llon) * pyslip.ppd_x
            y = (pyslip.map_tlat - latitude) * pyslip.ppd_y
            pyslip.view_offset_x = round(x - view.beam[0] * pyslip.view_width)
            pyslip.view_offset_y = round(y - view.beam[1] * pyslip.view_height)
            pyslip.RecalcViewLonLatLimits()
            pyslip.Update()

    def fit(self, view: View) -> View:
        """A view with the same contrast that has the whole frame in it."""
        first, last = self._corners_in_picture()
        window = np.array(self.size)
        levels = self.frame.pyslip.tiles.levels
        fits = [z for z in levels if ((last - first) * 2.0**z <= window).all()]
        zoom = max(fits, default=min(levels))
        from_centre = self._beam_in_picture() - (first + last) / 2
        x, y = (0.5 + from_centre * 2.0**zoom / window).tolist()
        return replace(view, zoom=zoom, beam=(x, y))

    def _set_brightness(self, view: View) -> None:
        frame, tiles = self.frame, self.frame.pyslip.tiles
        drawer = self._drawer
        levels = {**drawer.levels, **view.levels}
        if (levels, view.brightness) == (drawer.levels, frame.settings.brightness):
            return
        drawer.levels = levels
        frame.settings.brightness = view.brightness
        frame.settings_frame.panel.collect_values()  # its slider follows
        tiles.update_brightness(view.brightness, frame.settings.color_scheme)
        frame.pyslip.Update()

    def _beam_in_picture(self) -> tuple[float, float]:
        """Position of the beam in the viewer's picture, (fast, slow) in its pixels.

        The picture's centre where there is no geometry.
        """
        if abs(self.frame.get_detector()[0].get_distance()) == 0:
            fast, slow = np.mean(self._corners_in_picture(), axis=0).tolist()
            return fast, slow
        panel, fast, slow = self.frame.get_beam_center_px()
        flex_image = self.frame.pyslip.tiles.flex_image
        return flex_image.tile_readout_to_picture(panel, slow - 0.5, fast - 0.5)[::-1]

    def _corners_in_picture(self) -> NDArray[np.float64]:
        """What the panels take of the viewer's picture.

        Returns:
            float64 (2, 2), first and last corner, (fast, slow) in its pixels.
        """
        to_picture = self.frame.pyslip.tiles.flex_image.tile_readout_to_picture
        corners = []
        for number, panel in enumerate(self.frame.get_detector()):
            n_fast, n_slow = panel.get_image_size()
            for slow, fast in itertools.product((0, n_slow), (0, n_fast)):
                corners.append(to_picture(number, slow - 0.5, fast - 0.5)[::-1])
        return np.array([np.min(corners, axis=0), np.max(corners, axis=0)])

    def _on_map(self, fast: float, slow: float) -> tuple[float, float]:
        tiles = self.frame.pyslip.tiles
        return tiles.picture_fast_slow_to_map_relative(fast, slow)


def _find_name(wrapper: chooser_wrapper) -> ImageName:
    """The name of an image; the viewer's own name counts from 1 in each imageset."""
    return name_image(wrapper.image_set, wrapper.index)


def _safe(paint: Callable, name: str) -> Callable:
    """The painter of an overlay; where it raises, the overlay is left out."""

    @functools.wraps(paint)
    def paint_safely(*args: Any, **kwargs: Any) -> None:
        try:
            paint(*args, **kwargs)
        except Exception as error:
            level = logging.DEBUG if name in _failed else logging.WARNING
            _failed.add(name)
            text = str(error).partition("\n")[0]
            logger.log(level, "The viewer can't draw %s: %s", name.strip("<>"), text)

    return paint_safely
