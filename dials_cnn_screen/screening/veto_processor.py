"""The veto as a processor of dials.stills_process: no spot finding on a miss.

A processor class of stills_process gets the veto between its own find_spots and that of
DIALS, so that what a subclass does around spot finding is done for misses too:
cctbx.xfel logs them in its database, as images without spots.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from dials.array_family import flex
from dials.command_line import stills_process
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSet
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.geometry import check_size
from dials_cnn_screen.images.stills import Still, name_image
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.run import choose_device, make_screener, screen_still
from dials_cnn_screen.screening.veto_record import Record

logger = logging.getLogger("dials.cnn_screen.veto")

# Of spot finding, one for each panel.
Mask = tuple[flex.bool, ...] | None


class Vetoed(stills_process.Processor):
    """A processor of stills_process that finds no spots on stills that are not kept.

    Each process has one.

    Attributes:
        model, decision, mask, record: Set by with_veto, as DIALS makes the processors.
    """

    model: Model
    decision: Decision
    mask: Mask
    record: Record

    def __init__(
        self, params: Any, composite_tag: str | None = None, rank: int = 0
    ) -> None:
        try:
            super().__init__(params, composite_tag, rank)
            device = choose_device(params.cnn_screen.device)
            self._screener = make_screener(self.model, device, self.decision)
        except Exception as error:
            self.record.stopped(error)
            raise

    def __reduce__(self) -> tuple:
        # DIALS has each process send its processor back, and does not look at it; a
        # class that was made at run time can't be sent.
        return object, ()

    def pre_process(self, experiments: ExperimentList) -> None:
        """What DIALS does before spot finding; images that can't be read are refused.

        Spot finding of DIALS would take all memory for one that claims too many pixels.
        """
        still = _still(experiments)
        with self.record.failures_of(still.name):
            check_size(still.imageset.get_detector(0))
            super().pre_process(experiments)

    def find_spots(self, experiments: ExperimentList) -> flex.reflection_table:
        """Spots of a still that is kept; none of another."""
        still = _still(experiments)
        with self.record.failures_of(still.name):
            with _masked(still.imageset, self.mask):
                result = screen_still(self._screener, still)
            self.record.classified(result)
            _log(result)
            if not result.kept:
                return flex.reflection_table()
            with self._screener.source.handing_over(still):
                return super().find_spots(experiments)

    def finalize(self) -> None:
        """Write DIALS's files of this process."""
        super().finalize()
        self.record.finalized()


def with_veto(processor: type[stills_process.Processor], **own: Any) -> type[Vetoed]:
    """The class that does what this processor does, and vetoes.

    own: the attributes of Vetoed.
    """
    is_plain = processor is stills_process.Processor
    parents = (Vetoed,) if is_plain else (processor, Vetoed)
    return type(f"Vetoed{processor.__name__}", parents, own)


def _still(experiments: ExperimentList) -> Still:
    """The one image of a list that stills_process made; a still, whatever it says."""
    imageset = experiments[0].imageset
    return Still(imageset, 0, name_image(imageset, 0), [0])


@contextlib.contextmanager
def _masked(imageset: ImageSet, mask: Mask) -> Iterator[None]:
    """Let an imageset have spot finding's own mask for a while, besides its mask.

    Raises:
        ValueError: The mask is of other panels.
    """
    lookup = imageset.external_lookup.mask
    before = lookup.data
    if mask is not None:
        _check_mask(mask, imageset)
        used = [m.deep_copy() for m in mask]
        for both, there in zip(used, [] if before.empty() else before, strict=False):
            both &= there.data()
        lookup.data = ImageBool(tuple(used))
    try:
        yield
    finally:
        lookup.data = before


def _check_mask(mask: tuple[flex.bool, ...], imageset: ImageSet) -> None:
    sizes = [panel.get_image_size()[::-1] for panel in imageset.get_detector()]
    if [tuple(m.all()) for m in mask] != sizes:
        of_mask, of_image = (
            f"{len(shapes)} panels, the first of {shapes[0][0]} x {shapes[0][1]} pixels"
            for shapes in ([m.all() for m in mask], sizes)
        )
        raise ValueError(
            f"spotfinder.lookup.mask does not fit: it has {of_mask} (slow x fast), the "
            f"image {of_image}"
        )


def _log(result: ImageResult) -> None:
    if result.error is not None:
        logger.warning(
            "%s could not be classified and is kept: %s", result.name, result.error
        )
    elif not result.kept:
        logger.info(
            "%s: P(Hit) + P(Maybe) = %.3f, spot finding skipped",
            result.name,
            result.p_keep,
        )
