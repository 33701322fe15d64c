# LIBTBX_SET_DISPATCHER_NAME dials.cnn_screen
"""
Screen serial-crystallography stills as Hit, Maybe or Miss with a neural network.

Every image gets the probabilities of the three classes; images whose P(Hit) + P(Maybe)
reaches decision.threshold are kept. An image that cannot be judged, or is unlike
anything the model was trained on, is kept too, and reported.

Writes the kept stills (hits.expt), the scores (cnn_screen.json) and a report
(cnn_screen.html).

Examples::

  dials.cnn_screen imported.expt

  dials.cnn_screen run_42/*.h5 mp.nproc=16

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 output.rejected=misses.expt

  dials.cnn_screen imported.expt decision.max_hit_loss=0.01 \\
      calibration.annotation=labels.txt calibration.scores=cnn_screen.json

  mpirun -n 64 dials.cnn_screen imported.expt mp.method=mpi
"""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time

import libtbx.phil
from dials.util import show_mail_handle_errors, tabulate
from dials.util.options import ArgumentParser, flatten_experiments
from dxtbx.model import ExperimentList
from libtbx.easy_mp import get_processes
from tqdm import tqdm

from dials_cnn_screen.evaluation.metrics import wilson_interval
from dials_cnn_screen.images.stills import Still, list_stills, select_experiments
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.outputs.report import write_report
from dials_cnn_screen.phil import load_scope
from dials_cnn_screen.screening.calibration import choose_decision
from dials_cnn_screen.screening.decision import explain, keep
from dials_cnn_screen.screening.run import (
    Judgement,
    choose_device,
    mpi_world,
    screen,
    screen_mpi,
)
from dials_cnn_screen.screening.summary import (
    keep_scores,
    mean_seconds,
    strangest,
    summarise,
    tell_unlike,
    unlike_training,
    write_json,
)
from dials_cnn_screen.util.files import check_outputs, replacing
from dials_cnn_screen.util.program import CITATION, parse, user_errors

logger = logging.getLogger("dials.cnn_screen")

phil_scope = load_scope("cnn_screen")

# Characters in a line of the log.
_WIDTH = 80
# Images that a line of the log names of many; all are in the scores file.
_NAMED = 5


@show_mail_handle_errors()
def run(args: list[str] | None = None, phil: libtbx.phil.scope = phil_scope) -> None:
    """Run dials.cnn_screen with these arguments (default: the command line's)."""
    parser = ArgumentParser(
        usage="dials.cnn_screen [options] imported.expt | image files",
        phil=phil,
        read_experiments=True,
        read_experiments_from_images=True,
        epilog=__doc__,
    )
    with user_errors():
        params = parse(parser, args, "dials.cnn_screen")
        _screen(flatten_experiments(params.input.experiments), params)


def _screen(experiments: ExperimentList, params: libtbx.phil.scope_extract) -> None:
    """Judge the stills of the experiments and write what was asked for."""
    if not len(experiments):
        raise ValueError("no images: give an .expt file from dials.import, or images")
    outputs = params.output
    check_outputs(
        outputs.experiments,
        outputs.rejected,
        outputs.scores,
        outputs.html,
        outputs.log,
    )
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    model = load_model(params.model)
    decision = choose_decision(params, model)
    logger.info("%s", textwrap.fill(explain(decision), _WIDTH))
    device = choose_device(params.device)
    stills = list_stills(experiments)
    logger.info(
        "Model %s (%s), trained on %s", model.name, model.architecture, model.trained_on
    )

    start = time.perf_counter()
    judgements = _judge(stills, model, device, params.mp)
    if not judgements:
        return  # what is left to do is for the first MPI rank
    elapsed = time.perf_counter() - start
    if all(judgement.error is not None for judgement in judgements):
        raise ValueError(
            f"not one of the {len(stills)} images could be judged; the first, "
            f"{stills[0].file}: {judgements[0].error}"
        )
    kept = keep(keep_scores(judgements), decision, unlike_training(judgements))
    results = summarise(stills, judgements, kept, model, decision)
    _log_results(results, judgements, elapsed)
    _log_unlike(results)
    _write(experiments, stills, kept, results, outputs)
    logger.info("\nPlease cite: %s", CITATION)


def _judge(
    stills: list[Still], model: Model, device: str, mp: libtbx.phil.scope_extract
) -> list[Judgement]:
    """Judge the stills on processes or MPI ranks; empty on all ranks but the first."""
    if mp.method == "mpi":
        world = mpi_world()
        logger.info(
            "Screening %d images on %s, %d MPI ranks", len(stills), device, world.size
        )
        return screen_mpi(stills, model, device, world)
    nproc = min(get_processes(mp.nproc), len(stills))
    logger.info("Screening %d images on %s, nproc=%d", len(stills), device, nproc)
    # Closed at once when interrupted, so that no process goes on with the rest.
    with contextlib.closing(screen(stills, model, device, nproc)) as judgements:
        progress = tqdm(
            judgements, desc="Screening", total=len(stills), unit="image", disable=None
        )
        return list(progress)


def _log_results(results: dict, judgements: list[Judgement], elapsed: float) -> None:
    summary = results["summary"]
    total = summary["images"]
    rows = []
    for name in ("hit", "maybe", "miss", "failed", "kept"):
        low, high = wilson_interval(summary[name], total)
        title = "Could not be judged" if name == "failed" else name.capitalize()
        percent = f"{100 * summary[name] / total:.1f}"
        rows.append(
            [title, summary[name], percent, f"{100 * low:.1f}-{100 * high:.1f}"]
        )
    table = tabulate(
        rows,
        headers=["Class", "Images", "%", "95% interval"],
        disable_numparse=True,
        colalign=("left", "right", "right", "right"),
    )
    logger.info("\n%s", table)
    for image in results["images"]:
        if image["error"] is not None:
            logger.warning(
                "%s [%d] could not be judged and is kept: %s",
                image["file"],
                image["frame"],
                image["error"],
            )
    reading, preparing, classifying = mean_seconds(judgements)
    logger.info(
        "\n%.1f images/s; an image took %.1f ms to read, %.1f ms to prepare, "
        "%.1f ms to classify",
        total / elapsed,
        1e3 * reading,
        1e3 * preparing,
        1e3 * classifying,
    )


def _log_unlike(results: dict) -> None:
    if not (images := strangest(results)):
        return
    names = [f"{image['file']} [{image['frame']}]" for image in images[:_NAMED]]
    if len(images) > _NAMED:
        names.append("...")
    logger.warning("\n%s: %s", tell_unlike(results), ", ".join(names))


def _write(
    experiments: ExperimentList,
    stills: list[Still],
    kept: list[bool],
    results: dict,
    outputs: libtbx.phil.scope_extract,
) -> None:
    lists = ((outputs.experiments, kept), (outputs.rejected, ~kept))
    for path, chosen in lists:
        if path is None:
            continue
        selected = select_experiments(experiments, stills, chosen)
        with replacing(path) as unfinished:
            selected.as_file(unfinished)
        logger.info("Saved %d of %d images to %s", chosen.sum(), len(stills), path)
    if outputs.scores is not None:
        write_json(outputs.scores, results)
        logger.info("Saved the scores to %s", outputs.scores)
    if outputs.html is not None:
        write_report(outputs.html, results, stills, CITATION)
        logger.info("Saved the report to %s", outputs.html)


if __name__ == "__main__":
    run()
