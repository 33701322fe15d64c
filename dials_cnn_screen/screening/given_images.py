"""The images of a run: what was given, as stills, with the mask, and those chosen."""

from __future__ import annotations

import logging

from dxtbx.model import ExperimentList

from dials_cnn_screen.images.conversion import convert_to_stills, set_mask
from dials_cnn_screen.images.selection import choose_stills, select_experiments
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.screening.parameters import Parameters

logger = logging.getLogger("dials.cnn_screen")


def prepare_images(
    experiments: ExperimentList, params: Parameters, numbers: dict[str, set[int]]
) -> tuple[ExperimentList, list[Still]]:
    """The experiments that are screened, and their stills.

    Args:
        experiments: As they were given.
        params: Of the program.
        numbers: Of util/input_words.py: images that are meant of single files.

    Raises:
        ValueError: There are no images, a mask does not fit, or an image is chosen that
            is not there.
        OSError: The mask can't be read.
    """
    if params.convert_sequences_to_stills:
        experiments, n = convert_to_stills(experiments)
        if n:
            logger.info(
                "%d images have the header of a rotation scan and are taken for stills",
                n,
            )
    if params.mask is not None:
        set_mask(experiments, params.mask)
    stills = list_stills(experiments)
    chosen = choose_stills(stills, params.select, numbers)
    if all(chosen):
        return experiments, stills
    logger.info("%d of %d images are chosen", sum(chosen), len(stills))
    experiments = select_experiments(experiments, stills, chosen)
    return experiments, list_stills(experiments)
