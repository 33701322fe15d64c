"""dials.stills_process and its kind with a veto: parameters, run and scores."""

from __future__ import annotations

import glob
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libtbx.phil
from dials.algorithms.spot_finding.factory import SpotFinderFactory
from dials.command_line import stills_process
from dials.util import Sorry
from dials.util.options import ArgumentParser

from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import (
    DecisionRule,
    OwnLabels,
    choose_decision,
)
from dials_cnn_screen.screening.decision import Decision, format_decision
from dials_cnn_screen.screening.eye import EyeRule
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    write_results,
)
from dials_cnn_screen.screening.veto_account import (
    Account,
    account_for,
    format_left_out,
    log_account,
)
from dials_cnn_screen.screening.veto_images import GivenImages, find_files
from dials_cnn_screen.screening.veto_processor import Mask, Vetoed, with_veto
from dials_cnn_screen.screening.veto_record import Record, one_line
from dials_cnn_screen.util.files import check_writable
from dials_cnn_screen.util.mpi import mpi_world
from dials_cnn_screen.util.parameters import read_parameters
from dials_cnn_screen.util.program import CITATION, user_errors
from dials_cnn_screen.util.workers import forks_ending_with_parent

logger = logging.getLogger("dials.cnn_screen.veto")


@dataclass(frozen=True)
class Parameters:
    """The parameters of cnn_screen."""

    model: str | None
    device: str
    decision: DecisionRule
    calibration: OwnLabels
    eye: EyeRule
    scores: str | None


@dataclass(frozen=True)
class Veto:
    """What the processes get, and where the scores go.

    Attributes:
        model, decision: That classify the images.
        mask: Of spot finding.
        scores: File of the scores; None: not written.
    """

    model: Model
    decision: Decision
    mask: Mask
    scores: Path | None


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

    Args:
        script: Its parser is replaced.
        processor: Gets the veto.
        phil: The parameters of the script and the veto.
        args: None: the command line's.
        usage, epilog: Of the help.

    Raises:
        Sorry: Before anything is done, parameters that can't be; after all that could
            be done, files or images that were left out.
    """
    script.parser = ArgumentParser(usage=usage, phil=phil, epilog=epilog)
    with user_errors():
        params, options, words = _parse(script.parser, args)
        # On all ranks: one alone would leave the others waiting.
        world = mpi_world() if params.mp.method == "mpi" else None
        folder = Path(params.output.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        veto = read_veto(params)
        files, missing = find_files(words, params)
    record = Record.new(folder)
    if world:
        files, missing, record = world.bcast((files, missing, record))
    images = GivenImages(files, missing, params, world)
    if missing and not files:
        raise Sorry(images.format_unreadable())
    # The script is to find these files, and no others.
    params.input.glob, params.input.file_list = [], None
    parsed = params, options, [glob.escape(file) for file in files]
    script.parser.parse_args = lambda *_, **__: parsed
    record.remove_others()
    own = {"model": veto.model, "decision": veto.decision, "mask": veto.mask}
    vetoed = with_veto(processor, **own, record=record)
    stopped = _run(script, vetoed, images, world)
    if world and world.rank != 0:
        return
    left_out = [images.format_unreadable()] if images.unreadable else []
    if images.imported and not params.input.show_image_tags:
        account = account_for(
            images.selected(),
            record.read(),
            stopped,
            veto.decision,
            params.output.composite_output,
        )
        _write(veto, account)
        record.remove()
        left_out = format_left_out(account) + left_out
    if left_out:
        raise Sorry("; ".join(left_out))


def _parse(parser: ArgumentParser, args: list[str] | None) -> tuple[Any, Any, list]:
    """Parameters, options and other words; ValueError for a value that can't be."""
    try:
        return parser.parse_args(
            args, show_diff_phil=False, return_unhandled=True, quick_parse=True
        )
    except RuntimeError as error:  # PHIL's
        raise ValueError(error) from error


def read_veto(params: Any) -> Veto:
    """What the parameters ask for; ValueError for parameters that can't be."""
    own = read_parameters(Parameters, params.cnn_screen)
    if own.model is None:
        raise ValueError(
            "no cnn_screen.model: give default, or a file of dials.cnn_train"
        )
    model = load_model(own.model)
    decision = choose_decision(own.decision, own.calibration, own.eye, model)
    _check_dispatch(params.dispatch)
    folder = Path(params.output.output_dir)
    check_writable(folder / (own.scores or "parts"))
    scores = None if own.scores is None else folder / own.scores
    path = params.spotfinder.lookup.mask
    try:
        mask = SpotFinderFactory.load_image(path)
    except Exception as error:  # whatever pickle may raise
        raise ValueError(
            f"spotfinder.lookup.mask={path} can't be read: {one_line(error)}"
        ) from error
    return Veto(model, decision, mask, scores)


def _check_dispatch(dispatch: Any) -> None:
    """Raise ValueError where images would get round the veto, or be left out."""
    finder = dispatch.hit_finder
    if not finder.enable or finder.minimum_number_of_reflections < 1:
        raise ValueError(
            "without dispatch.hit_finder all images are indexed, also those without "
            "spots; set dispatch.hit_finder.enable=True and "
            "dispatch.hit_finder.minimum_number_of_reflections=1 or more"
        )
    if not dispatch.find_spots:
        raise ValueError("with dispatch.find_spots=False no image is classified")
    if not dispatch.pre_import:
        raise ValueError(
            "with dispatch.pre_import=False dials.stills_process leaves out files of "
            "one name, and files of several images; leave dispatch.pre_import out"
        )


def _run(
    script: stills_process.Script,
    processor: type[Vetoed],
    images: GivenImages,
    world: Any,
) -> str | None:
    """Run the script; why it stopped early, where it did so among the images.

    Raises:
        Sorry: It stopped before, or on one of several MPI ranks: the others would wait
            for it for ever.
    """
    usual, disabled = stills_process.Processor, logging.root.manager.disable
    stills_process.Processor = processor
    try:
        with images.reading(processor.record), forks_ending_with_parent():
            if world:
                world.Barrier()
            script.run()
            if world:
                world.Barrier()
    except (Exception, KeyboardInterrupt) as error:
        logger.debug("stills_process stopped", exc_info=True)
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else one_line(error)
        if not images.imported or (world and world.size > 1):
            raise Sorry(why) from None
        return why
    finally:
        stills_process.Processor = usual
        # output.logging_option=disabled is for what DIALS says of each image.
        logging.disable(disabled)
    return None


def _write(veto: Veto, account: Account) -> None:
    """Log what became of all images, and write the scores."""
    logger.info("\n%s", format_decision(veto.decision))
    log_account(account)
    if veto.scores is not None:
        summary = ModelSummary.of(veto.model)
        results = ScreeningResults(summary, veto.decision, account.images)
        write_results(veto.scores, results)
        logger.info("Saved the scores to %s", veto.scores)
    logger.info("\nPlease cite: %s", CITATION)
