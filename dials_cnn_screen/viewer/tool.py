"""The annotation tool in a window of dials.image_viewer."""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import wx
from dials.util.image_viewer.spotfinder_frame import SpotFrame

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.viewer.eye import reorder_by_eye
from dials_cnn_screen.viewer.keyboard import Keyboard, is_for_control
from dials_cnn_screen.viewer.panel import AnnotationPanel, format_answer, format_spots
from dials_cnn_screen.viewer.selection import read_scores
from dials_cnn_screen.viewer.session import Keys, Session
from dials_cnn_screen.viewer.stock_viewer import StockViewer
from dials_cnn_screen.viewer.task import Task
from dials_cnn_screen.viewer.train_button import TrainButton
from dials_cnn_screen.viewer.view import View

logger = logging.getLogger("dials.cnn_annotate")

DEFAULT_FILE = "labels.txt"
# How long the window system takes to paint an image that is drawn, ms; by hand.
_PAINT_DELAY = 100


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
        self._keyboard = Keyboard(self._keys)
        self._train_button = TrainButton(self, self._keys.train, self._reorder)
        self._viewer = StockViewer(frame)
        self._task: Task | None = None
        self._session: Session | None = None
        self._displayed: ImageName | None = None
        self._seen_since: float | None = None  # from when the image can be seen, s
        self._n_refused = 0  # keys, since the image was displayed
        self._shows_answer = False
        self._n_circled = self._n_in_view = 0  # spots
        self._paint_timer = wx.Timer(self)
        self._drawing_ahead: Iterator[None] | None = None
        self._seconds: list[float] = []  # that each image took to be displayed
        self._size = self._viewer.size
        self._view = View()
        self._close_up: View | None = None  # the view before that of the whole frame
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(self._viewer.docked(self))
        self._hooks.enter_context(self._viewer.one_contrast())
        self._hooks.enter_context(self._viewer.safe_overlays())
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
        self._task, self._session = task, Session(task.labels, task.order)
        self._close_up = None
        view = View.from_notes(task.labels.notes)
        self._view = replace(view, levels=self._viewer.find_levels(view.levels))
        self._show_current(self._session)

    def _close(self) -> None:
        self._train_button.stop()
        if self._seconds:
            logger.info(
                "Time to display an image: %.2f s (median of %d)",
                statistics.median(self._seconds),
                len(self._seconds),
            )
            self._seconds.clear()
        if self._session is not None:
            self._note_view(self._session)
            self._session.labels.close()
            self._session = None

    def _note_view(self, session: Session) -> None:
        """Keep the view for the next session; the whole frame is for a look only."""
        view = self._view
        if self._close_up is not None:
            view = replace(view, zoom=self._close_up.zoom, beam=self._close_up.beam)
        session.labels.note(view=view.as_notes())

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

    def _do(self, action: str, pressed: float | None = None) -> None:
        """Do what a button or key stands for.

        Args:
            action: A field of Keys, or "file".
            pressed: When the key was pressed, s; None for now.
        """
        session = self._session
        if action == "file":
            self._ask_for_file()
        elif session is None:
            wx.Bell()
        elif action == "whole_frame":
            self._toggle_whole_frame()
        elif action == "answer":
            self._toggle_answer(session)
        elif action == "train":
            self._train_button.toggle(session.labels, self._viewer)
        elif action == "eye":
            self._order_by_eye(session)
        elif _is_label(action) and not self._is_seen(pressed):
            # Only an image that can be seen is labelled.
            self._refuse(action, f"{session.name} was not displayed yet")
        else:
            try:
                self._note_view(session)
                self._actions[action](session)
            except OSError as error:
                logger.warning("%s", error)
                message = f"The label was not saved, try again: {error}"
                self.show_message(message, warning=True)
                wx.Bell()
                return
            self._show_current(session)

    def _is_seen(self, pressed: float | None) -> bool:
        """Whether the image could be seen when a key was pressed."""
        if self._seen_since is None:
            return False
        return pressed is None or pressed >= self._seen_since

    def _refuse(self, action: str, reason: str) -> None:
        self._n_refused += 1
        times = f" ({self._n_refused} times)" if self._n_refused > 1 else ""
        name = action.replace("_", " ").capitalize()
        self.show_refusal(f"{name} refused{times}: {reason}")

    def _toggle_whole_frame(self) -> None:
        if not self._viewer.is_drawn:
            self.show_refusal("There is no image")
        elif self._close_up is None:
            self._close_up = self._view
            self._apply_view()
        else:
            before, self._close_up = self._close_up, None
            self._view = replace(self._view, zoom=before.zoom, beam=before.beam)
            self._apply_view()

    def _toggle_answer(self, session: Session) -> None:
        """Show or hide the model's answer; before the label it would bias it."""
        if session.label is None:
            self.show_refusal("The model's answer is shown once the image is labelled")
        elif self._answer is None:
            self.show_refusal("No model's answer here; give scores=cnn_screen.json")
        else:
            self._shows_answer = not self._shows_answer
            self._describe_image(session)

    def _reorder(self, path: Path) -> None:
        """Show next the images of whose class a new model is the least certain.

        path: its scores of all images; raises what read_scores does.
        """
        session, task = self._session, self._task
        if session is None or task is None:
            return
        names = session.labels.names
        results = read_scores(path, names)
        session.reorder([math.nan if r is None else r.p_keep for r in results])
        answers = {n: r for n, r in zip(names, results, strict=True) if r is not None}
        self._task = replace(task, answers=answers)
        session.labels.note(order="uncertain", scores=str(path))
        self._show_new_order(session)

    def _order_by_eye(self, session: Session) -> None:
        task = self._task
        if task is None or not task.answers:
            self.show_refusal("An eye needs scores=cnn_screen.json")
            return
        try:
            fitted = reorder_by_eye(session, task.answers, task.region)
        except ValueError as error:
            self.show_refusal(str(error))
            return
        logger.info("%s", fitted)
        self._show_new_order(session)
        self.show_message(fitted)

    def _show_new_order(self, session: Session) -> None:
        self._drawing_ahead = None
        self._paint_timer.StartOnce(_PAINT_DELAY)  # another image follows now
        self._describe_image(session)
        self.show_session(session)

    @property
    def _answer(self) -> ImageResult | None:
        """What the model says of the displayed image; None where that is not known."""
        if self._task is None or self._displayed is None:
            return None
        return self._task.answers.get(self._displayed)

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
        action = self._keyboard.find_action(event)
        focus = wx.Window.FindFocus()
        if self._viewer.is_image_slider(focus):  # it knows no order
            focus = None
        if action is None or is_for_control(event, focus):
            event.Skip()
        elif self._keyboard.is_repeat(event):
            self._refuse(action, "a key that is held down counts once")
        else:
            self._do(action, self._keyboard.pressed_at(event))

    # The displayed image.

    def _show_current(self, session: Session) -> None:
        """Display the session's current image."""
        wanted = session.labels.names[session.current]
        error = None
        start = time.perf_counter()
        if wanted != self._viewer.selected:
            try:
                self._viewer.show(wanted)
            except Exception as e:  # whatever dxtbx or a format class may raise
                error = str(e)
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
        self._seen_since, self._drawing_ahead = None, None
        self._n_refused, self._shows_answer = 0, False
        self._displayed = self._viewer.selected
        names = session.labels.names
        if self._displayed not in names:  # opened with the File menu
            self._paint_timer.Stop()
            self.show_message("This image is not to be labelled", warning=True)
            return
        if wx.Window.FindFocus() is None:  # GTK would take the arrow keys then
            self._viewer.take_focus()
        self._paint_timer.StartOnce(_PAINT_DELAY)
        session.go_to(names.index(self._displayed))
        if self._viewer.is_drawn:
            self._apply_view()
        self._circle_spots(session)
        self._describe_image(session)
        self.show_session(session)

    def _apply_view(self) -> None:
        """Display the image as the one before."""
        if self._close_up is not None:
            self._view = self._viewer.fit(self._view)
        self._viewer.view = self._view
        self._view = self._viewer.view

    def _circle_spots(self, session: Session) -> None:
        """Circle spots; only on a labelled image, lest the circles bias the label."""
        spots, task = None, self._task
        if (
            task is not None
            and self._viewer.is_drawn
            and (session.label is not None or task.always_circle)
        ):
            spots = task.spots.get(session.labels.names[session.current])
        self._viewer.circle_spots(spots)
        self._n_circled = 0 if spots is None else len(spots.positions)

    def _describe_image(self, session: Session) -> None:
        """Show what may be known of the image, or where its label goes."""
        known = []
        if self._shows_answer and self._answer is not None:
            known.append(format_answer(self._answer))
        self._n_in_view = self._viewer.n_in_view
        if self._n_circled:
            known.append(format_spots(self._n_in_view, self._n_circled))
        self.show_message(
            "   |   ".join(known) or f"Labels are saved to {session.labels.path}"
        )

    def _on_painted(self, event: wx.TimerEvent) -> None:
        """The image has been on the screen for a moment."""
        if self._session is None or not self._viewer.is_drawn:
            return
        self._seen_since = time.monotonic()
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
            self._apply_view()
        self._keep_view(self._viewer.view)
        if self._viewer.n_in_view != self._n_in_view:
            self._describe_image(self._session)
        if self._drawing_ahead is not None:
            try:
                next(self._drawing_ahead)
                event.RequestMore()
            except StopIteration:
                self._drawing_ahead = None
            except Exception as error:  # shown when the image is to be displayed
                self._drawing_ahead = None
                logger.debug("Not drawn ahead: %s", error)

    def _keep_view(self, view: View) -> None:
        """Keep the view that the expert has chosen by zooming or dragging."""
        if (view.zoom, view.beam) != (self._view.zoom, self._view.beam):
            self._close_up = None
        self._view = view

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
