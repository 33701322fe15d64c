"""The Hit / Maybe / Miss tool of dials_cnn_screen in dials.image_viewer's Actions menu.

`python -m dials_cnn_screen.viewer.install` copies this file to the folder in which the
viewer looks for plugins; with --remove it deletes the copy.
"""

from __future__ import annotations

import wx


def open_tool(frame: wx.Frame, *args: object, **kwargs: object) -> wx.Window:
    """Open the tool in a viewer's window; the viewer gives more than is needed."""
    # Not above: an error there would keep the viewer from starting.
    from dials_cnn_screen.viewer.tool import AnnotationTool

    return AnnotationTool(frame)


class PluginHelper:
    """What the viewer asks a plugin for."""

    _plugin_layer = "_cnn_annotate_layer"
    _plugin_title = "Hit / Maybe / Miss tool"
    _plugin_hide_text = "Hide Hit / Maybe / Miss tool"
    _plugin_show_text = "Show Hit / Maybe / Miss tool"
    _plugin_settings_frame = open_tool
