"""The annotation tool in a window of dials.image_viewer."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import wx
from dials.util.image_viewer.spotfinder_frame import SpotFrame
from wx.lib.intctrl import IntCtrl
from wxtbx.phil_controls.intctrl import IntCtrl as PhilIntCtrl

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.viewer.overlay import Spots
from dials_cnn_screen.viewer.panel import AnnotationPanel
from dials_cnn_screen.viewer.session import Keys, Session
from dials_cnn_screen.viewer.stock_viewer import StockViewer
from dials_cnn_screen.viewer.task import Task
from dials_cnn_screen.viewer.view import View

logger = logging.getLogger("dials.cnn_annotate")

DEFAULT_FILE = "labels.txt"
# How long the window system takes to paint an image that is drawn, ms; by hand.
_PAINT_DELAY = 100
# Nobody presses a key twice within this time, ms, but a key held down repeats faster;
# by hand.
_KEY_REPEAT = 100


class AnnotationTool(AnnotationPanel):
    """The panel in a viewer's window, and what its buttons and keys do there.

    It works until the window closes or the panel is destroyed, as the viewer's Actions
    menu does; the label file is closed then.
    """

    def __init__(self, frame: SpotFrame, task: Task | None = None) -> None:
        """Add the panel to a window.

        Args:
            frame: The viewer's window.
            task: None for labels of all its images, in labels.txt of the current
                folder.
        """
        self._keys = task.keys if task else Keys()
        super().__init__(frame, self._keys, self._do)
        self._viewer = StockViewer(frame)
        self._session: Session | None = None
        self._spots: Mapping[ImageName, Spots] = {}
        self._always_circle = False
        self._displayed: ImageName | None = None
        self._is_painted = False  # whether the expert can see the image
        self._paint_timer = wx.Timer(self)
        self._drawing_ahead: Iterator[None] | None = None
        self._last_key = ("", 0)
        self._seconds: list[float] = []  # that each image took to be displayed
        self._size = self._viewer.size
        self._view = View()
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(self._viewer.docked(self))
        self._hooks.enter_context(self._viewer.one_contrast())
        for event, handler in (
            (wx.EVT_CHAR_HOOK, self._on_key),
            (wx.EVT_IDLE, self._on_idle),
            (wx.EVT_CLOSE, self._on_close),
        ):
            frame.Bind(event, handler)
            self._hooks.callback(self._unbind, event, handler)
        self.Bind(wx.EVT_TIMER, self._on_painted, self._paint_timer)
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
        """Label all images of the viewer, into this file."""
        self._close()
        try:
            labels = LabelFile(path, self._viewer.names)
        except (ValueError, OSError) as error:
            logger.warning("%s", error)
            self.show_session(None)
            self.show_message(str(error), warning=True)
            return
        self._start(Task(labels, keys=self._keys))

    def _start(self, task: Task) -> None:
        self._session = Session(task.labels, task.order)
        self._spots, self._always_circle = task.spots, task.always_circle
        self._view = View.from_notes(task.labels.notes)
        self._show_current(self._session)

    def _close(self) -> None:
        if self._seconds:
            logger.info(
                "Time to display an image: %.2f s (median of %d)",
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
            "Save labels to",
            defaultFile=DEFAULT_FILE,
            wildcard="Label files (*.txt)|*.txt|All files|*",
            style=wx.FD_SAVE,
        ) as dialog:
            if dialog.ShowModal() == wx.ID_OK:
                self._open(Path(dialog.GetPath()))

    # What buttons and keys do.

    def _do(self, action: str) -> None:
        """Do what a button or key stands for: a field of Keys, or "file"."""
        session = self._session
        if action == "file":
            self._ask_for_file()
        elif session is None or (_is_label(action) and not self._is_painted):
            wx.Bell()  # only an image that can be seen is labelled
        else:
            try:
                session.labels.note(view=self._view.as_notes())
                self._actions[action](session)
            except OSError as error:
                logger.warning("%s", error)
                message = f"The label was not saved, try again: {error}"
                self.show_message(message, warning=True)
                wx.Bell()
                return
            self._show_current(session)

    @property
    def _actions(self) -> dict[str, Callable[[Session], object]]:
        """What to do with the session, by the fields of Keys."""
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
        action = self._keys.find_action(key)
        if action is None or event.HasModifiers() or _is_text_input(key):
            event.Skip()
            return
        # A key that is held down repeats, but labels one image only.
        before, self._last_key = self._last_key, (key, event.GetTimestamp())
        if before[0] != key or self._last_key[1] - before[1] > _KEY_REPEAT:
            self._do(action)

    # The displayed image.

    def _show_current(self, session: Session) -> None:
        """Display the session's current image."""
        wanted = session.labels.names[session.current]
        error: Exception | None = None
        start = time.perf_counter()
        if wanted != self._viewer.selected:
            try:
                self._viewer.show(wanted)
            except Exception as e:  # whatever dxtbx or a format class may raise
                error = e
        self._follow_viewer(session)
        if error is None:
            self._seconds.append(time.perf_counter() - start)
        else:
            message = (
                f"{session.name} could not be read; the previous image is still shown: "
                f"{error}"
            )
            logger.warning("%s", message)
            self.show_message(message, warning=True)

    def _follow_viewer(self, session: Session) -> None:
        """Make the image selected in the viewer the current one, with the same view."""
        self._is_painted, self._drawing_ahead = False, None
        self._displayed = self._viewer.selected
        names = session.labels.names
        if self._displayed not in names:  # opened with the File menu
            self._paint_timer.Stop()
            self.show_message("This image is not to be labelled", warning=True)
            return
        self._paint_timer.StartOnce(_PAINT_DELAY)
        session.go_to(names.index(self._displayed))
        if self._viewer.is_drawn:
            self._viewer.view = self._view
        self._circle_spots(session)
        self.show_session(session)

    def _circle_spots(self, session: Session) -> None:
        """Circle spots; only on a labelled image, lest the circles bias the label."""
        spots = None
        if self._always_circle or session.label is not None:
            spots = self._spots.get(session.labels.names[session.current])
        self._viewer.circle_spots(spots if self._viewer.is_drawn else None)
        if spots is None:
            self.show_message(f"Labels are saved to {session.labels.path}")
        else:
            n = len(spots.positions)
            self.show_message(f"{n} spot{'' if n == 1 else 's'} circled")

    def _on_painted(self, event: wx.TimerEvent) -> None:
        """The image has been on the screen for a moment."""
        if self._session is None or not self._viewer.is_drawn:
            return
        self._is_painted = True
        following = self._session.following()
        if following is not None:
            name = self._session.labels.names[following]
            self._drawing_ahead = self._viewer.draw_ahead(name)
            wx.WakeUpIdle()

    def _on_idle(self, event: wx.IdleEvent) -> None:
        """No other event is waiting."""
        event.Skip()
        if self._session is None:
            return
        if self._viewer.selected != self._displayed:  # by the viewer's own buttons
            self._follow_viewer(self._session)
        if not self._viewer.is_drawn:
            return
        if self._viewer.size != self._size:  # the window was resized
            self._size = self._viewer.size
            self._viewer.view = self._view
        self._view = self._viewer.view
        if self._drawing_ahead is not None:
            try:
                next(self._drawing_ahead)
                event.RequestMore()
            except StopIteration:
                self._drawing_ahead = None
            except Exception as error:  # shown when the image is to be displayed
                self._drawing_ahead = None
                logger.debug("Not drawn ahead: %s", error)

    # The end.

    def _on_close(self, event: wx.CloseEvent) -> None:
        """The viewer's window is closed."""
        event.Skip()
        self._close()

    def _on_destroy(self, event: wx.WindowDestroyEvent) -> None:
        """The panel is destroyed."""
        event.Skip()
        if event.GetEventObject() is self:
            self._paint_timer.Stop()
            self._close()
            self._hooks.close()


def _is_label(action: str) -> bool:
    """Whether a field of Keys stands for a class."""
    return action in {label.key for label in Label}


def _is_text_input(key: str) -> bool:
    """Whether a text field that accepts this key has the focus."""
    focus = wx.Window.FindFocus()
    if not isinstance(focus, wx.TextEntry):
        return False
    return not isinstance(focus, IntCtrl | PhilIntCtrl) or not key.isalpha()
