"""What the keys of the viewer's windows stand for, and when they were pressed."""

from __future__ import annotations

import time
from collections.abc import Callable

import wx
from wx.lib.intctrl import IntCtrl
from wxtbx.phil_controls.intctrl import IntCtrl as PhilIntCtrl

from dials_cnn_screen.viewer.session import Keys

# Beside those of Keys.
_ARROWS = {
    wx.WXK_LEFT: "previous",
    wx.WXK_NUMPAD_LEFT: "previous",
    wx.WXK_RIGHT: "next",
    wx.WXK_NUMPAD_RIGHT: "next",
}
# Nobody presses a key twice within this time, ms, but a key held down repeats faster;
# by hand.
_REPEAT = 100
# A key that waited longer than this, s, was stamped by another clock; by hand.
_LONGEST_WAIT = 600


class Keyboard:
    """Turns key events into actions, and their time stamps into this program's time.

    The window system stamps each key with milliseconds since a moment of its own. A key
    comes in later than it was pressed, much later on a busy machine; the key that came
    soonest tells how the two clocks differ.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        """Use these keys, and a clock that gives the time in seconds."""
        self._keys = keys
        self._clock = clock
        self._ahead: float | None = None  # of the clock, s
        self._last = (0, 0)

    def find_action(self, event: wx.KeyEvent) -> str | None:
        """The field of Keys that a key stands for; None if for none."""
        code = event.GetKeyCode()
        if event.GetModifiers() == wx.MOD_CONTROL and code == ord("Z"):
            return "undo"
        if event.HasModifiers():
            return None
        return _ARROWS.get(code) or self._keys.find_action(character(event))

    def is_repeat(self, event: wx.KeyEvent) -> bool:
        """Whether this is the last key again because it is held down."""
        code, stamp = self._last
        self._last = event.GetKeyCode(), event.GetTimestamp()
        # A key made by a program has no stamp.
        return code == self._last[0] and 0 < self._last[1] <= stamp + _REPEAT

    def pressed_at(self, event: wx.KeyEvent) -> float:
        """When a key was pressed, or a little later, by this program's clock, s."""
        now, stamp = self._clock(), event.GetTimestamp()
        if not stamp:  # made by a program
            return now
        ahead = now - stamp / 1000
        if self._ahead is None or not 0 <= ahead - self._ahead < _LONGEST_WAIT:
            self._ahead = ahead
        return stamp / 1000 + self._ahead


def character(event: wx.KeyEvent) -> str:
    """The letter, digit or symbol on a key; a null character if there is none."""
    return chr(max(event.GetUnicodeKey(), 0))


def is_for_control(event: wx.KeyEvent, focus: wx.Window | None) -> bool:
    """Whether a key is for the control that has the focus, and not for the tool."""
    if isinstance(focus, wx.TextEntry):
        # One for numbers, such as that of the image, often has the focus unnoticed.
        is_number = character(event).isprintable() and not character(event).isalpha()
        return is_number or not isinstance(focus, IntCtrl | PhilIntCtrl)
    moves = isinstance(focus, wx.Slider | wx.Choice | wx.SpinCtrl | wx.RadioBox)
    return moves and event.GetKeyCode() in _ARROWS
