"""The veto in dials.stills_process and its kind: no spot finding on a miss.

A processor class of stills_process gets the veto between its own find_spots and that of
DIALS, so that what a subclass does around spot finding is done for misses too:
cctbx.xfel logs them in its database, as images without spots.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libtbx.phil
from dials.algorithms.spot_finding.factory import SpotFinderFactory
from dials.array_family import flex
from dials.command_line import stills_process
from dials.util import Sorry
from dials.util.options import ArgumentParser
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSet
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import (
    DecisionRule,
    OwnLabels,
    choose_decision,
)
from dials_cnn_screen.screening.decision import Decision, format_decision
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    ScreeningResults,
    image_as_json,
    image_from_json,
    write_results,
)
from dials_cnn_screen.screening.run import choose_device, make_screener, screen_still
from dials_cnn_screen.util.files import check_writable
from dials_cnn_screen.util.intervals import format_percent
from dials_cnn_screen.util.mpi import mpi_world
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, find_unreadable, user_errors

logger = logging.getLogger("dials.cnn_screen.veto")

# The results of one process, until the end of the run.
RESULTS_OF_PROCESS = ".cnn_screen_{}.jsonl"


@dataclass(frozen=True)
class Parameters:
    """The parameters of cnn_screen."""

    model: str | None
    device: str
    decision: DecisionRule
    calibration: OwnLabels
    scores: str | None


class Vetoed(stills_process.Processor):
    """A processor of stills_process that finds no spots on stills that are not kept.

    Each process has one. The result for an image goes to a file of the process at once,
    a line of JSON, so that little is lost when it is killed.

    Attributes:
        model, decision: Set by with_veto, as DIALS makes the processors.
    """

    model: Model
    decision: Decision

    def __init__(
        self, params: Any, composite_tag: str | None = None, rank: int = 0
    ) -> None:
        super().__init__(params, composite_tag, rank)
        device = choose_device(params.cnn_screen.device)
        self._screener = make_screener(self.model, device, self.decision)
        self._mask = SpotFinderFactory.load_image(params.spotfinder.lookup.mask)
        self._results = Path(params.output.output_dir, RESULTS_OF_PROCESS.format(rank))

    def __reduce__(self) -> tuple:
        # DIALS has each process send its processor back, and does not look at it; a
        # class that was made at run time can't be sent.
        return object, ()

    def find_spots(self, experiments: ExperimentList) -> flex.reflection_table:
        """Spots of a still that is kept; none of another."""
        (still,) = list_stills(experiments)
        with _masked(still.imageset, self._mask):
            result = screen_still(self._screener, still)
        with self._results.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(image_as_json(0, result, result.name)) + "\n")
        _log(result)
        if not result.kept:
            return flex.reflection_table()
        return super().find_spots(experiments)


def with_veto(
    processor: type[stills_process.Processor], model: Model, decision: Decision
) -> type[Vetoed]:
    """The class that does what this processor does, and vetoes."""
    is_plain = processor is stills_process.Processor
    parents = (Vetoed,) if is_plain else (processor, Vetoed)
    own = {"model": model, "decision": decision}
    return type(f"Vetoed{processor.__name__}", parents, own)


def add_veto(phil: libtbx.phil.scope) -> libtbx.phil.scope:
    """The parameters of a stills processor with those of the veto.

    All images are imported before the first is processed: without that
    dials.stills_process leaves out files of the same name in different folders, and
    files of several images.
    """
    phil = phil.customized_copy(objects=list(phil.objects))
    phil.adopt_scope(load_scope("veto"))
    return phil.fetch(source=libtbx.phil.parse("dispatch.pre_import = True"))


def process(
    script: stills_process.Script,
    processor: type[stills_process.Processor],
    phil: libtbx.phil.scope,
    args: list[str] | None,
    usage: str,
    epilog: str | None,
) -> None:
    """Run a script of stills_process with the veto in its processor.

    phil: the parameters of the script and the veto. Raises Sorry where those of the
    veto can't be, before anything is done.
    """
    script.parser = ArgumentParser(usage=usage, phil=phil, epilog=epilog)
    params, _, files = script.parser.parse_args(
        args, show_diff_phil=False, return_unhandled=True, quick_parse=True
    )
    with user_errors():
        world = mpi_world() if params.mp.method == "mpi" else None
        folder = Path(params.output.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # On all ranks: one alone would leave the others waiting.
        model, decision = read_veto(params)
        _check_names(files, params)
    is_first = world is None or world.rank == 0
    if is_first:
        for left in folder.glob(RESULTS_OF_PROCESS.format("*")):
            left.unlink()  # of a run that was killed
    usual = stills_process.Processor
    stills_process.Processor = with_veto(processor, model, decision)
    try:
        if world:
            world.Barrier()
        # That of cctbx.xfel takes none.
        script.run(*([] if args is None else [args]))
        if world:
            world.Barrier()
    except OSError as problem:
        raise Sorry(f"{find_unreadable(files)} can't be read: {problem}") from None
    finally:
        stills_process.Processor = usual
    if is_first:
        _gather(params, model, decision)


def read_veto(params: Any) -> tuple[Model, Decision]:
    """The model and the decision; ValueError for parameters that can't be."""
    own = read_parameters(Parameters, params.cnn_screen)
    if own.model is None:
        raise ValueError(
            "no cnn_screen.model: give default, or a file of dials.cnn_train"
        )
    model = load_model(own.model)
    decision = choose_decision(own.decision, own.calibration, model)
    finder = params.dispatch.hit_finder
    if not finder.enable or finder.minimum_number_of_reflections < 1:
        raise ValueError(
            "without dispatch.hit_finder all images are indexed, also those without "
            "spots; set dispatch.hit_finder.enable=True and "
            "dispatch.hit_finder.minimum_number_of_reflections=1 or more"
        )
    if own.scores is not None:
        check_writable(Path(params.output.output_dir, own.scores))
    return model, decision


def _check_names(files: list[str], params: Any) -> None:
    """Raise ValueError where dials.stills_process would leave out files in silence."""
    if params.dispatch.pre_import:
        return
    names = Counter(Path(file).stem for file in files)
    alike = [name for name, n in names.items() if n > 1]
    if alike:
        raise ValueError(
            f"{names[alike[0]]} files are called {alike[0]}, and with "
            "dispatch.pre_import=False dials.stills_process would process one of them "
            "only; leave dispatch.pre_import out"
        )


@contextlib.contextmanager
def _masked(imageset: ImageSet, mask: tuple[flex.bool, ...] | None) -> Iterator[None]:
    """Let an imageset have spot finding's own mask for a while, besides its mask."""
    lookup = imageset.external_lookup.mask
    before = lookup.data
    if mask is not None:
        used = [m.deep_copy() for m in mask]
        for both, there in zip(used, [] if before.empty() else before, strict=False):
            both &= there.data()
        lookup.data = ImageBool(tuple(used))
    try:
        yield
    finally:
        lookup.data = before


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


def _gather(params: Any, model: Model, decision: Decision) -> None:
    """Put the results of all processes together, in order of the names, and log."""
    files = list(Path(params.output.output_dir).glob(RESULTS_OF_PROCESS.format("*")))
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    if not lines:
        return
    images = [image_from_json(json.loads(line)) for line in lines]
    images.sort(key=lambda image: image.name)
    results = ScreeningResults(ModelSummary.of(model), decision, images)
    n, kept = len(images), sum(results.kept)
    logger.info("\n%s", format_decision(decision))
    logger.info(
        "Spot finding ran on %d of %d images, %% with 95%% interval %s; %d could not "
        "be classified",
        kept,
        n,
        format_percent(kept, n),
        len(results.failed),
    )
    if params.cnn_screen.scores is not None:
        path = Path(params.output.output_dir, params.cnn_screen.scores)
        write_results(path, results)
        logger.info("Saved the scores to %s", path)
    for file in files:
        file.unlink()
    logger.info("\nPlease cite: %s", CITATION)
