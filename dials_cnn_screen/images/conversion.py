"""Experiments as given, made ready for screening: as stills, with a user's mask."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence

import numpy as np
from dxtbx import flumpy
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSequence, ImageSet, ImageSetFactory
from dxtbx.model import Experiment, ExperimentList
from numpy.typing import NDArray

from dials_cnn_screen.images.opening import load_lookup
from dials_cnn_screen.images.stills import list_positions
from dials_cnn_screen.util.files import replacing

_SHOWN_SHAPES = 3  # of panels, in a message of one line


def convert_to_stills(experiments: ExperimentList) -> tuple[ExperimentList, int]:
    """The same images as stills, as dials.import convert_sequences_to_stills=True does.

    A screening image or a grid scan has the header of a rotation scan.

    Returns:
        The experiments, those that were no stills as one for each image, without scan,
        goniometer, crystal and profile; and the number of their images.
    """
    if all(e.is_still() or e.imageset is None for e in experiments):
        return experiments, 0
    converted, n = ExperimentList(), 0
    for experiment in experiments:
        if experiment.is_still() or experiment.imageset is None:
            converted.append(experiment)
            continue
        imageset = _without_scan(experiment.imageset)
        for position in list_positions(experiment):
            name = experiment.identifier
            converted.append(
                Experiment(
                    identifier=f"{name}-{position}" if name else "",
                    beam=experiment.beam,
                    detector=experiment.detector,
                    imageset=imageset[position : position + 1],
                )
            )
            n += 1
    return converted, n


def _without_scan(sequence: ImageSequence) -> ImageSet:
    """The images of a sequence, each with its models."""
    beam, detector = sequence.get_beam(), sequence.get_detector()
    imageset = ImageSetFactory.imageset_from_anyset(sequence)
    for position in range(len(imageset)):
        imageset.set_beam(beam, position)
        imageset.set_detector(detector, position)
        imageset.set_scan(None, position)
        imageset.set_goniometer(None, position)
    return imageset


def set_mask(experiments: ExperimentList, path: str) -> None:
    """Give all images a mask of dials.generate_mask, beside what masks them already.

    Raises:
        ValueError: The file is no mask, or does not fit a detector.
        OSError: It can't be read.
    """
    try:
        mask = load_lookup("mask", os.path.abspath(path))
    except OSError:
        raise
    except Exception as error:  # whatever pickle or Boost may raise
        raise ValueError(f"mask={path} is no mask of dials.generate_mask") from error
    shapes = [panel.data().focus() for panel in mask]
    for imageset in experiments.imagesets():
        panels = imageset.get_detector(0)
        if shapes != (wanted := [panel.get_image_size()[::-1] for panel in panels]):
            raise ValueError(
                f"mask={path} has {_describe_panels(shapes)}, and "
                f"{imageset.get_path(0)} has {_describe_panels(wanted)}"
            )
        give_mask(imageset, mask, path)


def _describe_panels(shapes: Sequence[tuple[int, int]]) -> str:
    """Number and shapes (slow, fast) of panels in a few words."""
    kinds = [f"{slow} x {fast}" for slow, fast in dict.fromkeys(shapes)]
    more = ["others"] if len(kinds) > _SHOWN_SHAPES else []
    number = f"{len(shapes)} panel{'s' * (len(shapes) != 1)}"
    return f"{number} of {', '.join(kinds[:_SHOWN_SHAPES] + more)} pixels"


def give_mask(imageset: ImageSet, mask: ImageBool, path: str) -> None:
    """Let the images of an imageset be read with a mask, that of a file."""
    imageset.external_lookup.mask.data = mask
    imageset.external_lookup.mask.filename = path


def read_mask(imageset: ImageSet) -> list[NDArray[np.bool_]] | None:
    """The mask that an imageset was given.

    Returns:
        bool (slow, fast) for each panel, True = use; None where it was given none.
    """
    lookup = imageset.external_lookup.mask
    mask = lookup.data
    if mask.empty() and lookup.filename:
        mask = load_lookup("mask", lookup.filename)
    return None if mask.empty() else [flumpy.to_numpy(m.data()) for m in mask]


def write_mask(path: str, panels: Sequence[NDArray[np.bool_]]) -> ImageBool:
    """Write a mask to a file as dials.generate_mask does; the same for imagesets.

    panels: bool (slow, fast) for each, True = use.
    """
    mask = tuple(flumpy.from_numpy(panel) for panel in panels)
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        pickle.dump(mask, file)
    load_lookup.cache_clear()  # it may have an older file of this name
    return ImageBool(mask)
