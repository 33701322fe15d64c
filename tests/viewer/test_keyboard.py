from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("wx")
pytest.importorskip("dials")

import wx

from dials_cnn_screen.viewer.keyboard import Keyboard
from dials_cnn_screen.viewer.session import Keys


@dataclass
class Key:
    """A key event: the key, modifiers, and the window system's time in ms."""

    code: int
    modifiers: int = wx.MOD_NONE
    stamp: int = 1

    def GetKeyCode(self):
        return self.code

    def GetUnicodeKey(self):
        return self.code if self.code < 256 else 0

    def GetModifiers(self):
        return self.modifiers

    def HasModifiers(self):
        return self.modifiers not in (wx.MOD_NONE, wx.MOD_SHIFT)

    def GetTimestamp(self):
        return self.stamp


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (Key(ord("J")), "hit"),
        (Key(ord("w")), "whole_frame"),
        (Key(ord("M"), wx.MOD_SHIFT), "answer"),
        (Key(wx.WXK_LEFT), "previous"),
        (Key(wx.WXK_NUMPAD_RIGHT), "next"),
        (Key(ord("Z"), wx.MOD_CONTROL), "undo"),
        (Key(ord("Z")), None),
        (Key(ord("J"), wx.MOD_CONTROL), None),
        (Key(wx.WXK_LEFT, wx.MOD_ALT), None),
        (Key(wx.WXK_F1), None),
    ],
)
def test_actions(key, action):
    assert Keyboard(Keys()).find_action(key) == action


def test_key_that_is_held_down_repeats():
    keyboard = Keyboard(Keys())
    stamps = [1000, 1660, 1700, 1740, 2000]
    repeats = [keyboard.is_repeat(Key(74, stamp=stamp)) for stamp in stamps]
    assert repeats == [False, False, True, True, False]
    assert not keyboard.is_repeat(Key(75, stamp=2010))
    assert not any(keyboard.is_repeat(Key(75, stamp=0)) for _ in range(3))


def test_key_was_pressed_before_it_came_in():
    now = 0.0
    keyboard = Keyboard(Keys(), clock=lambda: now)
    for now, stamp, pressed in (  # noqa: B007
        (10.5, 5000, 10.5),  # the first: it may have waited
        (11.25, 6000, 11.25),  # this one waited less
        (15.0, 7000, 12.25),  # a busy machine
        (16.0, 0, 16.0),  # made by a program
        (17.0, 11750, 17.0),
        (5000.0, 100, 5000.0),  # the window system counts from 0 again
        (5002.0, 1100, 5001.0),
    ):
        assert keyboard.pressed_at(Key(74, stamp=stamp)) == pressed
