"""The Hit / Maybe / Miss tool of dials_cnn_screen in dials.image_viewer's Actions menu.

`python -m dials_cnn_screen.viewer.install` puts this file where the viewer looks for
tools, beside its own; with --remove it is taken away.
"""

from __future__ import annotations

from typing import Any

import wx


def open_tool(frame: wx.Frame, *args: Any, **kwargs: Any) -> wx.Window:
    """Open the tool in a viewer's window."""
    # Not above: an error there would keep the viewer from starting.
    from dials_cnn_screen.viewer.tool import open_from_menu

    return open_from_menu(frame)


class PluginHelper:
    """What the viewer asks a tool for."""

    _plugin_layer = "_cnn_annotate_layer"
    _plugin_title = "Hit / Maybe / Miss tool"
    _plugin_hide_text = "Hide Hit / Maybe / Miss tool"
    _plugin_show_text = "Show Hit / Maybe / Miss tool"
    _plugin_settings_frame = open_tool
