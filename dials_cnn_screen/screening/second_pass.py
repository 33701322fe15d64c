"""A run, where spots recur in it, and on request once more without these pixels.

The second pass is of the images that have a spot at such a pixel. What is left out
follows from the results of the first for all images, so that the order in which they
came does not matter. The record has the results of the first pass.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.conversion import give_mask, read_mask, write_mask
from dials_cnn_screen.images.opening import load_lookup
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.detectors import group_by_detector
from dials_cnn_screen.screening.parameters import Parameters
from dials_cnn_screen.screening.progress import follow
from dials_cnn_screen.screening.recorded import Run, Screened, screen_recorded
from dials_cnn_screen.screening.recurring import (
    Places,
    Recurring,
    draw_near,
    find_near,
    find_places,
)
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.stream import stream_results
from dials_cnn_screen.util.interrupts import Interrupted, interruptible
from dials_cnn_screen.util.mpi import ending_together, mpi_world

logger = logging.getLogger("dials.cnn_screen")


class SecondPass(NamedTuple):
    """What the images of one detector are classified again without.

    Attributes:
        mask: File of the mask, with folders.
        images: Places in the run of all images that get it.
        again: Places of those to classify again.
    """

    mask: str
    images: list[int]
    again: list[int]


def check_recurring(params: Parameters, model: Model) -> None:
    """Raise ValueError where recurring spots are to be left out and can't be."""
    if not params.leaves_out:
        return
    if model.max_spots is None:
        raise ValueError(
            f"recurring={params.recurring}, but model {model.name} looks for no spots; "
            "take another, such as model=default, or leave recurring out"
        )
    if params.output.recurring_mask is None:
        raise ValueError(
            f"recurring={params.recurring} needs a file for the mask; leave out "
            "output.recurring_mask=None"
        )


def screen_passes(run: Run, params: Parameters, reads: bool = True) -> Screened | None:
    """As screen_recorded; what recurs is found, and left out if that is asked for.

    Raises:
        ValueError, OSError: As screen_recorded does; a mask can't be written.
    """
    screened = screen_recorded(run, params, reads)
    if params.recurring is None:
        return screened
    if params.mp.method == "mpi" and params.leaves_out:
        with ending_together(mpi_world()):
            return _screen_twice(run, params, reads, screened)
    return _screen_twice(run, params, reads, screened)


def _screen_twice(
    run: Run, params: Parameters, reads: bool, screened: Screened | None
) -> Screened | None:
    """What comes after the first pass; screened: of that, as in _screen_again."""
    plan: list[SecondPass] = []
    if screened is not None:
        recurring, plan = _find_recurring(screened, params)
        screened = replace(screened, recurring=recurring)
        if screened.stopped:
            return screened  # other MPI ranks wait for images, and are ended
    if not params.leaves_out:
        return screened
    if params.mp.method == "mpi":
        plan = mpi_world().bcast(plan)
    if not plan:
        return screened
    for part in plan:
        mask = load_lookup("mask", part.mask)
        for place in part.images:
            give_mask(run.stills[place].imageset, mask, part.mask)
    todo = sorted(place for part in plan for place in part.again)
    return _screen_again(run, params, reads, screened, todo)


def _screen_again(
    run: Run,
    params: Parameters,
    reads: bool,
    screened: Screened | None,
    todo: list[int],
) -> Screened | None:
    """The same with new results for the images at these places; as before if stopped.

    As screen_passes; screened is None on MPI ranks but the first.
    """
    results = stream_results(
        *(run.stills, run.model, run.decision, params.device, params.mp),
        todo=todo,
        reads=reads,
    )
    if screened is None:
        for _ in results:
            pass
        return None
    logger.info("Again, without the pixels where spots recur:")
    again: dict[int, ImageResult] = {}
    try:
        with interruptible():
            again.update(follow(results, len(todo)))
    except (Interrupted, ChildProcessError) as error:
        return replace(screened, stopped=error)
    recurring = [replace(each, left_out=True) for each in screened.recurring]
    return replace(screened, done={**screened.done, **again}, recurring=recurring)


def _find_recurring(
    screened: Screened, params: Parameters
) -> tuple[list[Recurring], list[SecondPass]]:
    """Where spots recur on each detector, and what leaves them out; writes masks."""
    # The results after those of stills are of files that can't be read.
    images = screened.results.images[: len(screened.stills)]
    done = zip(
        sorted(screened.done)[: len(images)], screened.stills, images, strict=True
    )
    recurring: list[Recurring] = []
    plan: list[SecondPass] = []
    for detector in group_by_detector(done):
        spots = detector.spots()
        places = find_places(spots)
        sure = places
        if params.recurring != "exclude_all":
            sure = places.choose(~places.in_doubt)
        near = find_near(spots.sizes, sure.panel, sure.pixel, spots.panel, spots.pixel)
        again = [detector.places[i] for i in np.unique(spots.image[near]).tolist()]
        mask = None
        panels = _draw_mask(spots.sizes, sure)
        if len(sure) and params.output.recurring_mask is not None:
            mask = _name_mask(params.output.recurring_mask, len(plan))
            write_mask(mask, _add_masks(panels, detector.stills))
            plan.append(SecondPass(str(Path(mask).resolve()), detector.places, again))
        recurring.append(
            Recurring(
                n_images=spots.n_images,
                places=places,
                n_masked=len(sure),
                n_pixels=sum(int(np.count_nonzero(~panel)) for panel in panels),
                n_with=len(again),
                mask=mask,
            )
        )
    return recurring, plan


def _draw_mask(sizes: list[tuple[int, int]], places: Places) -> list[NDArray[np.bool_]]:
    """A mask of places: bool (slow, fast) for each panel, True = use."""
    return [
        ~draw_near(size, places.pixel[places.panel == panel])
        for panel, size in enumerate(sizes)
    ]


def _add_masks(
    panels: list[NDArray[np.bool_]], stills: list[Still]
) -> list[NDArray[np.bool_]]:
    """The panels of a mask with what the masks that stills were given mask already."""
    imagesets = {
        still.imageset.external_lookup.mask.filename: still.imageset for still in stills
    }
    for imageset in imagesets.values():
        if (given := read_mask(imageset)) is not None:
            panels = [a & b for a, b in zip(panels, given, strict=True)]
    return panels


def _name_mask(path: str, n_before: int) -> str:
    """The name of a mask; that of a second detector has _2 at its end."""
    if not n_before:
        return path
    name = Path(path)
    return str(name.with_stem(f"{name.stem}_{n_before + 1}"))
