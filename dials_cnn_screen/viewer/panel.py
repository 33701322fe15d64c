"""The panel below the image: buttons, the label of the image, counts and rate."""

from __future__ import annotations

from collections.abc import Callable

import wx

from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label, format_counts
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.viewer.session import Keys, Session

# White on these is easy to read; the report has the same.
COLOURS = {Label.HIT: "#1b7837", Label.MAYBE: "#b35806", Label.MISS: "#5f5f5f"}
_WARNING_COLOUR = "#b2182b"

RULE = (
    f"Hit: {HIT_SPOTS} or more Bragg spots.   "
    f"Maybe: {MAYBE_SPOTS} to {HIT_SPOTS - 1}.   Miss: {MAYBE_SPOTS - 1} or fewer."
)
# Short, so that all fit into the stock viewer's window, 1024 pixels wide.
_BUTTONS = {
    "previous": "Previous",
    "next": "Next",
    "next_unlabelled": "Unlabelled",
    "undo": "Undo",
    "clear": "Clear",
    "whole_frame": "Frame",
    "answer": "Model",
    "eye": "Eye",
}


class AnnotationPanel(wx.Panel):
    """Buttons for the classes and for navigation, and the state of the session."""

    def __init__(
        self, parent: wx.Window, keys: Keys, on_action: Callable[[str], None]
    ) -> None:
        """Make the buttons.

        Args:
            parent: The viewer's window.
            keys: Shown on the buttons.
            on_action: Called with what a button does: a field of Keys, or "file".
        """
        super().__init__(parent)
        self._on_action = on_action
        buttons = wx.BoxSizer(wx.HORIZONTAL)
        for label in Label:
            button = self._add_button(buttons, label.key, label.name, keys)
            button.SetBackgroundColour(COLOURS[label])
            button.SetForegroundColour(wx.WHITE)
            button.SetFont(button.GetFont().Bold())
            button.SetMinSize((88, 40))
        buttons.AddSpacer(8)
        for action, text in _BUTTONS.items():
            button = self._add_button(buttons, action, text, keys)
            button.SetMinSize((button.GetBestSize().width + 10, 40))
        self._name = self._make_text(scale=1.1)
        self._label = self._make_text(scale=1.6, bold=True)
        self._progress = self._make_text()
        self._message = self._make_text()
        self._warning = self._make_text()
        self._warning.SetForegroundColour(_WARNING_COLOUR)
        self._training = self._make_text()
        for text in (self._warning, self._training):
            text.Hide()
        self._file = wx.Button(self, label="File...")
        self._file.SetToolTip("Choose the file that the labels are saved to")
        self._file.Bind(wx.EVT_BUTTON, lambda event: on_action("file"))

        state = wx.BoxSizer(wx.HORIZONTAL)
        state.Add(self._label, flag=wx.ALIGN_CENTER_VERTICAL | wx.RIGHT, border=16)
        state.Add(self._name, flag=wx.ALIGN_CENTER_VERTICAL | wx.RIGHT, border=24)
        state.Add(self._progress, 1, flag=wx.ALIGN_CENTER_VERTICAL)
        last = wx.BoxSizer(wx.HORIZONTAL)
        last.Add(
            wx.StaticText(self, label=RULE),
            flag=wx.ALIGN_CENTER_VERTICAL | wx.RIGHT,
            border=24,
        )
        last.Add(self._message, 1, flag=wx.ALIGN_CENTER_VERTICAL | wx.RIGHT, border=8)
        self._add_button(last, "train", "Train", keys).SetToolTip(
            "Train on the labels so far, and re-order the images without a label"
        )
        last.Add(self._file, flag=wx.EXPAND)
        rows = wx.BoxSizer(wx.VERTICAL)
        for row in (buttons, state, last, self._training, self._warning):
            rows.Add(row, flag=wx.EXPAND | wx.LEFT | wx.RIGHT | wx.TOP, border=6)
        rows.AddSpacer(6)
        self.SetSizer(rows)

    def show_session(self, session: Session | None) -> None:
        """Update label, name and progress; None where there is no label file."""
        self._progress.Show(session is not None)
        if session is None:
            texts = ("", "", "")
        else:
            label = session.label
            texts = (
                label.name if label is not None else "no label",
                str(session.name),
                format_progress(session),
            )
            colour = "#000000" if label is None else COLOURS[label]
            self._label.SetForegroundColour(colour)
        for widget, text in zip(
            (self._label, self._name, self._progress), texts, strict=True
        ):
            widget.SetLabel(text)
        self.Layout()

    def show_message(self, message: str, warning: bool = False) -> None:
        """Show a message beside the rule, or a warning in a line of its own."""
        self._set_message("" if warning else message)
        self._warning.SetLabel(message if warning else "")
        if self._warning.IsShown() != warning:
            self._warning.Show(warning)
            self.GetParent().Layout()
        self.Layout()

    def show_training(self, text: str, warning: bool = False) -> None:
        """Show how far a training is, or what became of it, in a line of its own."""
        self._training.SetForegroundColour(_WARNING_COLOUR if warning else "#000000")
        self._training.SetLabel(text)
        self._training.SetToolTip(text)
        if not self._training.IsShown():
            self._training.Show()
            self.GetParent().Layout()

    def show_refusal(self, message: str) -> None:
        """Say why nothing was done, without moving the image."""
        self._set_message(message, colour=_WARNING_COLOUR)
        wx.Bell()

    def _set_message(self, message: str, colour: str = "#000000") -> None:
        self._message.SetForegroundColour(colour)
        self._message.SetLabel(message)
        self._message.SetToolTip(message)

    def _add_button(
        self, row: wx.Sizer, action: str, text: str, keys: Keys
    ) -> wx.Button:
        label = f"{text} ({getattr(keys, action)})"
        # No wider than its text, so that all are seen in the viewer's window.
        button = wx.Button(self, label=label, name=action, style=wx.BU_EXACTFIT)
        button.Bind(wx.EVT_BUTTON, lambda event: self._on_action(action))
        row.Add(button, flag=wx.EXPAND | wx.RIGHT, border=4)
        return button

    def _make_text(self, scale: float = 1.0, bold: bool = False) -> wx.StaticText:
        style = wx.ST_ELLIPSIZE_MIDDLE | wx.ST_NO_AUTORESIZE if scale == 1 else 0
        text = wx.StaticText(self, style=style)
        font = text.GetFont().Scaled(scale)
        text.SetFont(font.Bold() if bold else font)
        return text


def format_progress(session: Session) -> str:
    """Counts by class, position in the order, images left, rate and time left."""
    line = (
        f"{format_counts(session.labels.counts())}   |   "
        f"image {session.position} of {len(session.order)}   |   "
        f"{session.done} labelled, {session.left} left"
    )
    if session.rate is not None:
        line += f"   |   {session.rate:.0f} per minute"
        if session.left and session.minutes_left is not None:
            line += f", {_format_minutes(session.minutes_left)} left"
    return line


def format_answer(result: ImageResult) -> str:
    """What a model says of an image."""
    if result.prediction is None:
        return f"Model: {result.title.lower()} ({result.error})"
    return f"Model: {result.title}, P(Hit) + P(Maybe) {result.p_keep:.2f}"


def format_spots(n_in_view: int, n: int) -> str:
    """How many of the spots that are circled are in view."""
    return f"{n_in_view} of {n} circled spot{'' if n == 1 else 's'} in view"


def _format_minutes(minutes: float) -> str:
    if minutes < 1:
        return "under a minute"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
