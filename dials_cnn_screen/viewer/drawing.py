"""How the viewer's images are drawn: with one contrast, and ahead of time.

For each image the viewer makes a flex image, which turns pixels into grey levels and
those into square tiles of the screen. This takes half a second for four megapixels.
Here the flex image of the next image is made while the expert looks at this one, step
by step between events, and its tiles too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dials.util.image_viewer.slip_viewer import tile_generation

from dials_cnn_screen.viewer.contrast import (
    brightness_for,
    choose_sample,
    display_level,
    keep_level,
    level_of_run,
)

if TYPE_CHECKING:
    from dials.util.image_viewer.spotfinder_frame import SpotFrame
    from dials.util.image_viewer.spotfinder_wrap import chooser_wrapper

logger = logging.getLogger("dials.cnn_annotate")

# Screen pixels along the edge of the viewer's tiles.
_TILE = 256


class Drawing:
    """A flex image, some of whose tiles are ready; in all else it is that flex image.

    The methods with names in the viewer's style replace those of the flex image.
    """

    def __init__(self, flex_image: Any) -> None:
        self._flex_image = flex_image
        self._color_scheme: int | None = None
        self._ready: dict[tuple, tuple[int, int, bytes]] = {}
        self._zoom: int | None = None
        self._tile: tuple = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flex_image, name)

    def adjust(self, color_scheme: int = 0) -> None:
        """Turn pixels into grey levels or colours, unless that is done."""
        if color_scheme != self._color_scheme:
            self._flex_image.adjust(color_scheme=color_scheme)
            self._ready.clear()
            self._color_scheme = color_scheme

    def setZoom(self, zoom: int) -> None:
        self._zoom = zoom
        self._flex_image.setZoom(zoom)

    def setWindowCart(self, *window: float) -> None:
        self._tile = (self._zoom, *window)
        if self._tile not in self._ready:
            self._flex_image.setWindowCart(*window)

    def prep_string(self) -> None:
        if self._tile not in self._ready:
            self._flex_image.prep_string()

    def ex_size1(self) -> int:
        ready = self._ready.get(self._tile)
        return ready[0] if ready else self._flex_image.ex_size1()

    def ex_size2(self) -> int:
        ready = self._ready.get(self._tile)
        return ready[1] if ready else self._flex_image.ex_size2()

    def as_bytes(self) -> bytes:
        ready = self._ready.get(self._tile)
        return ready[2] if ready else self._flex_image.as_bytes()

    def prepare_tile(self, zoom: int, x: int, y: int) -> None:
        """Make a tile, with the viewer's own arithmetic (tile_generation)."""
        image = self._flex_image
        self.setZoom(zoom)
        self.setWindowCart(y, x, float(_TILE) / image.size1() / 2**zoom)
        self.prep_string()
        self._ready[self._tile] = (
            image.ex_size1(),
            image.ex_size2(),
            image.as_bytes(),
        )


class Drawer:
    """Draws the images of a viewer's window in place of the viewer.

    Attributes:
        levels: For each kind of detector the level by which all its images are scaled,
            ADU. Without one the viewer scales each image by its own pixels.
    """

    def __init__(self, frame: SpotFrame) -> None:
        self.levels: dict[str, float] = {}
        self._frame = frame
        self._draw = tile_generation.get_flex_image_multipanel
        self._ahead: tuple[tuple, Drawing] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within this context the viewer's images are drawn here."""
        tile_generation.get_flex_image_multipanel = self._draw_image
        try:
            yield
        finally:
            tile_generation.get_flex_image_multipanel = self._draw

    def draw_ahead(self, wrapper: chooser_wrapper) -> Iterator[None]:
        """Draw an image that is not shown yet, in short steps."""
        frame, tiles = self._frame, self._frame.pyslip.tiles
        if not self._shows_pixels() or frame.params.show_mask:
            return
        self._ahead = None
        panels = frame.get_image_data(wrapper)
        yield
        color_scheme = frame.settings.color_scheme
        drawing = self._make(
            panels,
            frame.settings.brightness / 100,
            detector=wrapper.get_detector(),
            beam=wrapper.get_beam(),
            color_scheme=color_scheme,
        )
        yield
        drawing.adjust(color_scheme=color_scheme)
        self._ahead = (self._state(wrapper), drawing)
        yield
        for x, y in self._visible_tiles():
            drawing.prepare_tile(tiles.zoom_level, x, y)
            yield

    def _draw_image(
        self, *, image_data: Sequence[Any], brightness: float = 1.0, **others: Any
    ) -> Any:
        """In place of the viewer's get_flex_image_multipanel."""
        if not self._shows_pixels():
            return self._draw(image_data=image_data, brightness=brightness, **others)
        # What was drawn ahead is used once: later calls are for stacks and the like.
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == self._state(self._frame.images.selected):
            return ahead[1]
        return self._make(image_data, brightness, **others)

    def _make(self, panels: Sequence[Any], brightness: float, **others: Any) -> Drawing:
        if level := self.levels.get(_kind_of(panels)):
            brightness = brightness_for(level, panels, brightness)
        return Drawing(self._draw(image_data=panels, brightness=brightness, **others))

    def _shows_pixels(self) -> bool:
        """Whether the viewer shows the images themselves, not a filter's output."""
        return self._frame.settings.display == "image"

    def _state(self, wrapper: chooser_wrapper) -> tuple:
        """All that the drawing of an image depends on."""
        settings = self._frame.settings
        return (
            wrapper,
            settings.brightness,
            settings.color_scheme,
            settings.image_type,
            self._frame.params.show_mask,
            tuple(self.levels.items()),
        )

    def _visible_tiles(self) -> list[tuple[int, int]]:
        """The tiles in the window, (x, y), counted as the viewer does."""
        pyslip = self._frame.pyslip
        left, top = pyslip.view_offset_x, pyslip.view_offset_y
        right, bottom = left + pyslip.view_width, top + pyslip.view_height
        columns = range(math.floor(left / _TILE), math.ceil(right / _TILE))
        rows = range(math.floor(top / _TILE), math.ceil(bottom / _TILE))
        return [(x, y) for x in columns for y in rows]


def find_levels(
    wrappers: Iterable[chooser_wrapper], stored: Mapping[str, float]
) -> dict[str, float]:
    """The level of each kind of detector, from a few of its images over the run.

    Args:
        wrappers: The images, in the order of the run.
        stored: The levels of an earlier session, kept where they fit the images.
    """
    same_size: dict[tuple, list[chooser_wrapper]] = {}
    for wrapper in wrappers:
        detector = wrapper.get_detector()
        size = (len(detector), *detector[0].get_image_size())
        same_size.setdefault(size, []).append(wrapper)
    levels: dict[str, list[float]] = {}
    for images in same_size.values():
        for i in choose_sample(len(images)):
            try:
                panels = _read(images[i])
                levels.setdefault(_kind_of(panels), []).append(display_level(panels))
            except Exception as error:  # whatever dxtbx or a format class may raise
                logger.debug("No level of %s: %s", images[i], error)
    found = {kind: level_of_run(those) for kind, those in levels.items()}
    return {
        **stored,
        **{
            kind: keep_level(stored.get(kind), level)
            for kind, level in found.items()
            if level is not None
        },
    }


def _read(wrapper: chooser_wrapper) -> Sequence[Any]:
    """The panels of an image, whatever of it the viewer shows."""
    panels = wrapper.image_set.get_corrected_data(wrapper.index)
    return panels if isinstance(panels, tuple) else (panels,)


def _kind_of(panels: Sequence[Any]) -> str:
    """The kind of detector: the images of one kind have one level."""
    slow, fast = panels[0].focus()
    return f"{len(panels)} panels of {slow} x {fast}"
