"""The veto in dials.stills_process and its kind: no spots are looked for on a miss.

A processor class of stills_process gets the veto between its own find_spots and that of
DIALS, so that what a subclass does around spot finding is done for misses too:
cctbx.xfel logs them in its database, as images without spots.
"""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libtbx.phil
from dials.algorithms.spot_finding.factory import SpotFinderFactory
from dials.array_family import flex
from dials.command_line import stills_process
from dials.util import Sorry
from dials.util.options import ArgumentParser
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSet
from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.models.classifier import make_classifier
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import choose_decision
from dials_cnn_screen.screening.decision import Decision, explain, keep
from dials_cnn_screen.screening.run import Judgement, choose_device, judge
from dials_cnn_screen.screening.summary import (
    collect,
    image_entry,
    keep_scores,
    unlike_training,
    write_json,
)
from dials_cnn_screen.util.files import check_writable
from dials_cnn_screen.util.intervals import wilson_interval
from dials_cnn_screen.util.mpi import mpi_world
from dials_cnn_screen.util.program import CITATION, find_unreadable, user_errors

logger = logging.getLogger("dials.cnn_screen.pipeline")

# What one process says of its images, until the end of the run.
PART = ".cnn_screen_{}.jsonl"


class Vetoed(stills_process.Processor):
    """A processor of stills_process that finds no spots on stills that are not kept.

    Each process has one. What it says of an image goes to a file of its own at once, a
    line of JSON, so that little is lost when it is killed. model, decision: set by
    with_veto, as DIALS makes the processors.
    """

    model: Model
    decision: Decision

    def __init__(
        self,
        params: libtbx.phil.scope_extract,
        composite_tag: str | None = None,
        rank: int = 0,
    ) -> None:
        super().__init__(params, composite_tag, rank)
        device = choose_device(params.cnn_screen.device)
        self._classifier = make_classifier(self.model, device)
        self._mask = SpotFinderFactory.load_image(params.spotfinder.lookup.mask)
        self._part = Path(params.output.output_dir, PART.format(rank))

    def __reduce__(self) -> tuple:
        # DIALS has each process send its processor back, and does not look at it; a
        # class that was made at run time can't be sent.
        return object, ()

    def find_spots(self, experiments: ExperimentList) -> flex.reflection_table:
        """Spots of a still that is kept; of another none."""
        (still,) = list_stills(experiments)
        with _masked(still.imageset, self._mask):
            judgement = judge(still, self._classifier)
        kept = self._keeps(still, judgement)
        with self._part.open("a", encoding="utf-8") as part:
            part.write(json.dumps(image_entry(0, still, judgement, kept)) + "\n")
        _tell(still, judgement, kept)
        return super().find_spots(experiments) if kept else flex.reflection_table()

    def _keeps(self, still: Still, judgement: Judgement) -> bool:
        # Misses to keep are drawn by the image, whichever process it comes to.
        name = f"{still.file} [{still.frame}]".encode()
        drawn = replace(self.decision, seed=[self.decision.seed, zlib.crc32(name)])
        scores, unlike = keep_scores([judgement]), unlike_training([judgement])
        return bool(keep(scores, drawn, unlike)[0])


def with_veto(
    processor: type[stills_process.Processor], model: Model, decision: Decision
) -> type[Vetoed]:
    """The class that does what this processor does, and vetoes."""
    is_plain = processor is stills_process.Processor
    parents = (Vetoed,) if is_plain else (processor, Vetoed)
    own = {"model": model, "decision": decision}
    return type(f"Vetoed{processor.__name__}", parents, own)


def add_veto(phil: libtbx.phil.scope) -> libtbx.phil.scope:
    """The parameters of a stills processor with those of the veto."""
    phil = phil.customized_copy(objects=list(phil.objects))
    phil.adopt_scope(load_scope("veto"))
    return phil


def process(
    script: stills_process.Script,
    processor: type[stills_process.Processor],
    phil: libtbx.phil.scope,
    args: list[str] | None,
    usage: str,
    epilog: str,
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
    is_first = world is None or world.rank == 0
    if is_first:
        for part in folder.glob(PART.format("*")):
            part.unlink()  # of a run that was killed
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


def read_veto(params: libtbx.phil.scope_extract) -> tuple[Model, Decision]:
    """The model and what is kept by it; ValueError for parameters that can't be."""
    if params.cnn_screen.model is None:
        raise ValueError(
            "no cnn_screen.model: give default, or a file of dials.cnn_train"
        )
    model = load_model(params.cnn_screen.model)
    decision = choose_decision(params.cnn_screen, model)
    finder = params.dispatch.hit_finder
    if not finder.enable or finder.minimum_number_of_reflections < 1:
        raise ValueError(
            "without dispatch.hit_finder all images are indexed, also those without "
            "spots; set dispatch.hit_finder.enable=True and "
            "dispatch.hit_finder.minimum_number_of_reflections=1 or more"
        )
    if params.cnn_screen.scores is not None:
        check_writable(Path(params.output.output_dir, params.cnn_screen.scores))
    return model, decision


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


def _tell(still: Still, judgement: Judgement, kept: bool) -> None:
    name = f"{still.file} [{still.frame}]"
    if judgement.error is not None:
        logger.warning("%s could not be judged and is kept: %s", name, judgement.error)
    elif not kept:
        (score,) = keep_scores([judgement])
        logger.info("%s: P(Hit) + P(Maybe) = %.3f, no spots are sought", name, score)


def _gather(
    params: libtbx.phil.scope_extract, model: Model, decision: Decision
) -> None:
    """Put the parts of all processes together, in order of file and frame, and tell."""
    parts = list(Path(params.output.output_dir).glob(PART.format("*")))
    lines = [line for part in parts for line in part.read_text("utf-8").splitlines()]
    if not lines:
        return
    images = sorted(map(json.loads, lines), key=lambda x: (x["file"], x["frame"]))
    for index, image in enumerate(images):
        image["index"] = index
    results = collect(images, model, decision)
    summary = results["summary"]
    n, kept = summary["images"], summary["kept"]
    low, high = (100 * x for x in wilson_interval(kept, n))
    logger.info("\n%s", explain(decision))
    logger.info(
        "Spots were sought on %d of %d images, %.1f%% (95%% interval %.1f-%.1f%%); %d "
        "could not be judged",
        kept,
        n,
        100 * kept / n,
        low,
        high,
        summary["failed"],
    )
    if params.cnn_screen.scores is not None:
        path = Path(params.output.output_dir, params.cnn_screen.scores)
        write_json(path, results)
        logger.info("Saved the scores to %s", path)
    for part in parts:
        part.unlink()
    logger.info("\nPlease cite: %s", CITATION)
