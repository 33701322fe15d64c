"""The stock dials.image_viewer with the annotation tool open from the start."""

from __future__ import annotations

import gc
import signal
import sys

import wx
from dials.command_line import image_viewer
from dials.util.image_viewer.spotfinder_frame import SpotFrame
from dials.util.image_viewer.spotfinder_wrap import chooser_wrapper
from dxtbx.imageset import ImageSet
from dxtbx.model import Experiment, ExperimentList

from dials_cnn_screen.images.stills import name_image
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.viewer.task import Task
from dials_cnn_screen.viewer.tool import AnnotationTool

# What the viewer leaves for its settings window, on the right, in screen pixels.
_SETTINGS_WIDTH = 400


class NamedImage(chooser_wrapper):
    """An image of the viewer under the name that it has in the label file."""

    def __init__(self, imageset: ImageSet, index: int, short_name: ImageName) -> None:
        super().__init__(imageset, index)
        self.short_name = short_name

    def __str__(self) -> str:
        return str(self.short_name)


def label_in_viewer(experiments: ExperimentList, task: Task) -> None:
    """Open the viewer with the images of the experiments; returns when it is closed.

    Raises:
        ValueError: There is no display.
    """
    if not wx.App.IsDisplayAvailable():
        raise ValueError(
            "there is no display for the window; set DISPLAY, or log in with ssh -X"
        )
    # Each label is on disk, so Ctrl-C may end the program at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    app = wx.App()
    _, _, width, height = wx.GetClientDisplayRect()
    frame = SpotFrame(
        None,
        wx.ID_ANY,
        "dials.cnn_annotate",
        pos=(0, 0),
        params=image_viewer.phil_scope.extract(),
        # One by one, or the viewer splits them and says so for each.
        experiments=[ExperimentList([_images_alone(e)]) for e in experiments],
        reflections=[],
    )
    frame.SetSize((max(width - _SETTINGS_WIDTH, 1024), height))
    frame.Show()
    short_names = dict(zip(task.labels.names, task.labels.short_names, strict=True))
    for imageset in frame.imagesets:
        for index in range(len(imageset)):
            # An imageset may have more images than are to be labelled.
            name = name_image(imageset, index)
            short_name = short_names.get(name, ImageName(name.file, name.number))
            frame.add_file_name_or_data(NamedImage(imageset, index, short_name))
    _load_first(frame)
    for name, plugin in frame.plugins.items():
        # The tool is open: its entry in the Actions menu would open another.
        if plugin.__name__ == "cnn_annotate_frame_plugin":
            frame._actions_menu.Delete(frame._id_plugins[name])
    AnnotationTool(frame, task)
    app.MainLoop()
    _forget_errors()


def _forget_errors() -> None:
    """Let go of the last error that wx printed, as for the mouse on an unread image.

    Its traceback has windows and events, and Python would abort as it ended them after
    wx has ended.
    """
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    gc.collect()


def _images_alone(experiment: Experiment) -> Experiment:
    """The experiment without crystal: DIALS 3.12 can't draw its axes with newer wx."""
    return Experiment(
        beam=experiment.beam,
        detector=experiment.detector,
        goniometer=experiment.goniometer,
        scan=experiment.scan,
        imageset=experiment.imageset,
    )


def _load_first(frame: SpotFrame) -> None:
    """Display the first image that can be read.

    Raises:
        ValueError: There is none.
    """
    first = ""
    for wrapper in frame.images:
        try:
            frame.load_image(wrapper)
            return
        except Exception as error:  # whatever dxtbx or a format class may raise
            first = first or str(error)
    raise ValueError(f"none of the images can be read: {first}")
