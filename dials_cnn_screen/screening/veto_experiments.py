"""Experiment lists and files of which some images can't be read, without these."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from dxtbx.imageset import ImageSetFactory
from dxtbx.model import Experiment, ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.read import find_models
from dials_cnn_screen.images.stills import name_image
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.util.input_files import read_image_by_image

Errors = dict[ImageName, Exception]
Import = Callable[..., ExperimentList]


def import_readable(path: str, import_file: Import) -> tuple[ExperimentList, Errors]:
    """The images of an experiment list that can be read, as stills_process has them.

    Args:
        path: Of the experiment list.
        import_file: do_import of stills_process.

    Returns:
        An experiment for each image that can be read; why the others can't.

    Raises:
        Exception: Whatever reading may raise: it is no experiment list, or the fault is
            with none of its files.
    """
    content = json.loads(Path(path).read_bytes())
    folder = os.path.dirname(path)
    named = ExperimentListFactory.from_dict(content, False, folder)
    bad = _unreadable_files(named, import_file)
    errors: Errors = {}
    good = []
    for entry, experiment in zip(content["experiment"], named, strict=True):
        imageset = experiment.imageset
        unread = [file for file in imageset.paths() if file in bad]
        for i, file in enumerate(imageset.paths() if unread else []):
            with_it = OSError(f"it is in one imageset with {unread[0]}, unreadable")
            errors[name_image(imageset, i)] = bad.get(file, with_it)
        if not unread:
            good.append(entry)
    content["experiment"] = good
    return _split(ExperimentListFactory.from_dict(content, True, folder)), errors


def import_image_by_image(file: str) -> tuple[ExperimentList, Errors]:
    """The images of a file whose models can be made, as stills_process has them.

    Returns:
        An experiment for each of them; why the others have none.

    Raises:
        Exception: Whatever reading may raise; ValueError where the fault is with none
            of the images.
    """
    errors: Errors = {}
    good = ExperimentList()
    for experiment in read_image_by_image(file):
        imageset = experiment.imageset
        try:
            find_models(imageset, 0)
        except Exception as error:  # whatever a file format may raise
            errors[name_image(imageset, 0)] = error
        else:
            good.append(Experiment(imageset=imageset))
    if not errors:
        raise ValueError("each image by itself can be read")
    return good, errors


def _unreadable_files(
    experiments: ExperimentList, import_file: Import
) -> dict[str, Exception]:
    """The files that can't be imported, and why."""
    paths = [path for e in experiments for path in e.imageset.paths()]
    bad = {}
    for path in dict.fromkeys(paths):
        try:
            import_file(path, load_models=False)
        except Exception as error:
            bad[path] = error
    return bad


def _split(experiments: ExperimentList) -> ExperimentList:
    """An experiment for each image, as do_import of stills_process makes them."""
    split = ExperimentList()
    for experiment in experiments:
        imageset = ImageSetFactory.imageset_from_anyset(experiment.imageset)
        for i in range(len(imageset)):
            split.append(
                Experiment(
                    imageset=imageset[i : i + 1],
                    detector=experiment.detector,
                    beam=experiment.beam,
                    scan=experiment.scan,
                    goniometer=experiment.goniometer,
                    crystal=experiment.crystal,
                )
            )
    return split
