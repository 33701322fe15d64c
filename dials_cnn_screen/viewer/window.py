"""The stock dials.image_viewer with the annotation tool open from the start."""

from __future__ import annotations

import signal
from pathlib import Path

import wx
from dials.command_line import image_viewer
from dials.util.image_viewer.spotfinder_frame import SpotFrame
from dials.util.image_viewer.spotfinder_wrap import chooser_wrapper
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import find_image
from dials_cnn_screen.labels.label_file import tell_name
from dials_cnn_screen.viewer.tool import AnnotationTool, Task


class NamedImage(chooser_wrapper):
    """An image of the viewer, under the name that it has in label files."""

    def __str__(self) -> str:
        path, number = find_image(self.image_set, self.index)
        return tell_name((Path(path).name, number))


# What the viewer leaves for its window of settings, on the right.
_SETTINGS_WIDTH = 400


def label_in_viewer(experiments: ExperimentList, task: Task) -> None:
    """Open the viewer on the images of the experiments; returns when it is closed.

    Raises ValueError without a display.
    """
    if not wx.App.IsDisplayAvailable():
        raise ValueError(
            "there is no display for the window; set DISPLAY, or log in with ssh -X"
        )
    # Each label is on disk, so Ctrl-C may end the program as it always does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    app = wx.App()
    _, _, width, height = wx.GetClientDisplayRect()
    frame = SpotFrame(
        None,
        wx.ID_ANY,
        "dials.cnn_annotate",
        pos=(0, 0),
        params=image_viewer.phil_scope.extract(),
        # One by one, or the viewer takes them apart and says so of each.
        experiments=[ExperimentList([experiment]) for experiment in experiments],
        reflections=[],
    )
    frame.SetSize((max(width - _SETTINGS_WIDTH, 1024), height))
    frame.Show()
    for imageset in frame.imagesets:
        for index in range(len(imageset)):
            frame.add_file_name_or_data(NamedImage(imageset, index))
    frame.load_image(frame.images[0])
    for name, plugin in frame.plugins.items():
        # Here the tool stays: its entry in the Actions menu would open another.
        if plugin.__name__ == "cnn_annotate_frame_plugin":
            frame._actions_menu.Delete(frame._id_plugins[name])
    AnnotationTool(frame, task)
    app.MainLoop()
