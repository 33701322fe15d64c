"""The annotation tool at work in a window of dials.image_viewer."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wx
from wx.lib.intctrl import IntCtrl
from wxtbx.phil_controls.intctrl import IntCtrl as PhilIntCtrl

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile, name_images, tell_name
from dials_cnn_screen.viewer.overlay import Image, Spots
from dials_cnn_screen.viewer.panel import AnnotationPanel
from dials_cnn_screen.viewer.session import Keys, Session
from dials_cnn_screen.viewer.stock_viewer import StockViewer
from dials_cnn_screen.viewer.view import View

logger = logging.getLogger("dials.cnn_annotate")

DEFAULT_FILE = "labels.txt"
# Until what was drawn is on the screen, ms: the window system has its own pace.
_TO_PAINT = 100
# Nobody presses a key twice within this time, ms; a keyboard repeats faster.
_HELD_DOWN = 100


@dataclass
class Task:
    """What is to be labelled, and how.

    images: of all labels in the file, in its order. labels: the file. order: indices of
    those to be shown; None for all. keys: the tool's. spots: to be circled on images
    that have a label, and with always on the others too.
    """

    images: Sequence[Image]
    labels: LabelFile
    order: Sequence[int] | None = None
    keys: Keys = field(default_factory=Keys)
    spots: Mapping[Image, Spots] = field(default_factory=dict)
    always: bool = False


def open_from_menu(frame: Any, *args: Any, **kwargs: Any) -> AnnotationTool:
    """The tool for all images of a viewer; called by its Actions menu."""
    return AnnotationTool(frame)


class AnnotationTool(AnnotationPanel):
    """The panel in a viewer's window, and what its buttons and keys do there.

    It works until the window closes or the panel is destroyed, as the viewer's Actions
    menu does; the label file is closed then.
    """

    def __init__(self, frame: Any, task: Task | None = None) -> None:
        """frame: the viewer's SpotFrame. task: None for labels of all its images in
        labels.txt of the current folder."""
        self._keys = task.keys if task else Keys()
        super().__init__(frame, self._keys, self._act)
        self._viewer = StockViewer(frame)
        self._session: Session | None = None
        self._task: Task | None = None
        self._before_expert: Image | None = None
        self._ready = False  # the image has been seen; no key from before waits
        self._seen = wx.Timer(self)
        self._ahead: Iterator[None] | None = None  # the next image, in the making
        self._last_key = ("", 0)
        self._seconds: list[float] = []  # that each image took to be shown
        self._size = self._viewer.size
        self._view = View()
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(self._viewer.docked(self))
        self._hooks.enter_context(self._viewer.drawing())
        for event, handler in (
            (wx.EVT_CHAR_HOOK, self._on_key),
            (wx.EVT_IDLE, self._on_idle),
            (wx.EVT_CLOSE, self._on_close),
        ):
            frame.Bind(event, handler)
            self._hooks.callback(self._unbind, event, handler)
        self.Bind(wx.EVT_TIMER, self._on_seen, self._seen)
        self.Bind(wx.EVT_WINDOW_DESTROY, self._on_destroy)
        if task is not None:
            self._start(task)
        else:
            self._open(Path(DEFAULT_FILE))

    def _unbind(self, event: wx.PyEventBinder, handler: Callable) -> None:
        if frame := self._viewer.frame:  # false once the window is gone
            frame.Unbind(event, handler=handler)

    # The label file.

    def _open(self, path: Path) -> None:
        """Label all images of the viewer into this file."""
        self._close()
        images = self._viewer.images
        try:
            labels = LabelFile(path, name_images(images))
        except (ValueError, OSError) as problem:
            logger.warning("%s", problem)
            self.show(None)
            self.tell(str(problem), warning=True)
            return
        self._start(Task(images, labels, keys=self._keys))

    def _start(self, task: Task) -> None:
        self._task = task
        self._session = Session(task.labels, task.order)
        self._view = View.from_notes(task.labels.notes)
        self._show_current()

    def _close(self) -> None:
        if self._seconds:
            logger.info(
                "An image was drawn %.2f s after it was asked for (median of %d)",
                statistics.median(self._seconds),
                len(self._seconds),
            )
            self._seconds.clear()
        if self._session is not None:
            self._session.labels.note(view=self._view.as_notes())
            self._session.labels.close()
            self._session = None

    def _ask_for_file(self) -> None:
        with wx.FileDialog(
            self,
            "Labels go to",
            defaultFile=DEFAULT_FILE,
            wildcard="Label files (*.txt)|*.txt|All files|*",
            style=wx.FD_SAVE,
        ) as dialog:
            if dialog.ShowModal() == wx.ID_OK:
                self._open(Path(dialog.GetPath()))

    # What buttons and keys do.

    def _act(self, name: str) -> None:
        """Do what a button says."""
        session = self._session
        if name == "file":
            self._ask_for_file()
        elif session is None or (_is_label(name) and not self._ready):
            wx.Bell()  # a label is only for what has been seen
        else:
            try:
                session.labels.note(view=self._view.as_notes())
                self._actions[name](session)
            except OSError as problem:
                logger.warning("%s", problem)
                self.tell(f"Not on disk, try again: {problem}", warning=True)
                wx.Bell()
                return
            self._show_current()

    @property
    def _actions(self) -> dict[str, Callable[[Session], object]]:
        """What each button does, by the fields of Keys."""
        return {
            "hit": lambda session: session.choose(Label.HIT),
            "maybe": lambda session: session.choose(Label.MAYBE),
            "miss": lambda session: session.choose(Label.MISS),
            "previous": Session.previous,
            "next": Session.next,
            "next_unlabelled": Session.next_unlabelled,
            "undo": Session.undo,
            "clear": Session.clear,
        }

    def _on_key(self, event: wx.KeyEvent) -> None:
        """A key in any of the viewer's windows."""
        key = chr(max(event.GetUnicodeKey(), 0))
        name = self._keys.meaning(key)
        if name is None or event.HasModifiers() or _goes_into_text(key):
            event.Skip()
            return
        # A key that is held down comes again and again, and is no label for each image.
        before, self._last_key = self._last_key, (key, event.GetTimestamp())
        if before[0] != key or self._last_key[1] - before[1] > _HELD_DOWN:
            self._act(name)

    # The image before the expert.

    def _show_current(self) -> None:
        """Have the viewer show the session's image."""
        session = self._session
        wanted = self._task.images[session.current]
        start, problem = time.perf_counter(), None
        if wanted != self._viewer.selected:
            try:
                self._viewer.show(wanted)
            except Exception as error:  # whatever dxtbx or a file format may raise
                problem = error
        self._take_up()
        if problem is None:
            self._seconds.append(time.perf_counter() - start)
        else:
            message = (
                f"{tell_name(session.name)} can't be read; what you see is the image "
                f"before: {problem}"
            )
            logger.warning("%s", message)
            self.tell(message, warning=True)

    def _take_up(self) -> None:
        """Be at the image that the viewer is at, and look at it as at the others."""
        self._ready, self._ahead = False, None
        self._before_expert = self._viewer.selected
        if self._before_expert not in self._task.images:  # opened by the File menu
            self._seen.Stop()
            self.tell("This image is not among those to be labelled", warning=True)
            return
        self._seen.StartOnce(_TO_PAINT)
        self._session.go_to(self._task.images.index(self._before_expert))
        if self._viewer.is_drawn:
            self._viewer.view = self._view
        self._circle_spots()
        self.show(self._session)

    def _circle_spots(self) -> None:
        """Not before the expert has chosen, lest they sway the choice."""
        task = self._task
        may = task.always or self._session.label is not None
        spots = task.spots.get(self._before_expert) if may else None
        self._viewer.circle(spots if self._viewer.is_drawn else None)
        self.tell(
            f"Labels go to {task.labels.path}"
            if spots is None
            else f"{len(spots.places)} spots circled"
        )

    def _on_seen(self, event: wx.TimerEvent) -> None:
        """The image has been on the screen for a moment."""
        if self._session is None or not self._viewer.is_drawn:
            return
        self._ready = True
        following = self._session.following()
        if following is not None:
            self._ahead = self._viewer.draw_ahead(self._task.images[following])
            wx.WakeUpIdle()

    def _on_idle(self, event: wx.IdleEvent) -> None:
        """All that was asked for is done."""
        event.Skip()
        if self._session is None:
            return
        if self._viewer.selected != self._before_expert:  # by the viewer's own buttons
            self._take_up()
        if not self._viewer.is_drawn:
            return
        if self._viewer.size != self._size:  # the window was made larger or smaller
            self._size = self._viewer.size
            self._viewer.view = self._view
        self._view = self._viewer.view
        if self._ahead is not None:
            try:
                next(self._ahead)
                event.RequestMore()
            except StopIteration:
                self._ahead = None
            except Exception as problem:  # told to the expert when the image is due
                self._ahead = None
                logger.debug("Not drawn ahead: %s", problem)

    # The end.

    def _on_close(self, event: wx.CloseEvent) -> None:
        """The viewer's window is closed."""
        event.Skip()
        self._close()

    def _on_destroy(self, event: wx.WindowDestroyEvent) -> None:
        event.Skip()
        if event.GetEventObject() is self:
            self._seen.Stop()
            self._close()
            self._hooks.close()


def _is_label(name: str) -> bool:
    return name.upper() in Label.__members__


def _goes_into_text(key: str) -> bool:
    """Whether a field has the focus that such a key can be typed into."""
    focus = wx.Window.FindFocus()
    if not isinstance(focus, wx.TextEntry):
        return False
    return not isinstance(focus, IntCtrl | PhilIntCtrl) or not key.isalpha()
