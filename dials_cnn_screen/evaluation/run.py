"""An evaluation: labels, the model's results and spots of the same images together."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from dials.util import tabulate
from dxtbx.model import ExperimentList

from dials_cnn_screen.evaluation.audit import Audit, audit_rejected
from dials_cnn_screen.evaluation.figures import check_training_split
from dials_cnn_screen.evaluation.input import (
    LabelledImages,
    SpotFindingResults,
    combine_spots,
    match_screening,
    read_labelled,
    read_spots,
)
from dials_cnn_screen.evaluation.results import Evaluation
from dials_cnn_screen.evaluation.spotfinding import (
    SpotFinding,
    count_in_table,
    find_on_stills,
    format_changes,
)
from dials_cnn_screen.evaluation.tables import Table
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.labels.label import count_labels, format_counts
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.outputs.log import WIDTH, log_model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.eye import NO_EYE, ChosenEye, EyeRule, choose_eye
from dials_cnn_screen.screening.labelled import check_own
from dials_cnn_screen.screening.progress import follow
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    read_results,
)
from dials_cnn_screen.screening.stream import in_order, stream_results
from dials_cnn_screen.spots.eye import Eye
from dials_cnn_screen.util.progress import track
from dials_cnn_screen.util.workers import Processes, count_processes

logger = logging.getLogger("dials.cnn_evaluate")


@dataclass(frozen=True)
class Threshold:
    """The parameter of decision; ValueError where it is not from 0 to 1."""

    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:  # PHIL takes nan for a number
            raise ValueError(f"decision.threshold={self.threshold} is not from 0 to 1")


@dataclass(frozen=True)
class TrainingSplit:
    """The parameters of training: images on which cuts in spots are chosen."""

    fraction: float | None
    random_seed: int
    annotation: list[str | None]


@dataclass(frozen=True)
class Sources:
    """The parameters that say where labels, results and spots are from."""

    annotation: list[str | None]
    model: str | None
    scores: str | None
    compare: str | None
    same_images: bool
    decision: Threshold
    eye: EyeRule
    spot_counts: str | None
    reflections: str | None
    find_spots: str
    min_spots: int | None
    training: TrainingSplit
    device: str
    mp: Processes


def evaluate_images(
    experiments: ExperimentList, sources: Sources, finding: SpotFinding | None
) -> Evaluation:
    """Bring together what is known of the labelled images.

    Args:
        experiments: Of the images; empty without.
        sources: Where all else is from.
        finding: How spots are found now; None where they are not.

    Raises:
        ValueError: There is nothing to evaluate, or too much; a file can't be read, or
            is of other images.
    """
    _check_sources(sources, has_images=len(experiments) > 0)
    stills = list_stills(experiments) if len(experiments) else None
    earlier = None if sources.scores is None else read_results(sources.scores)
    model = _load_model(sources, earlier, stills is not None)
    chosen = _choose_eye(sources, earlier, model)
    images = _read_labelled(stills, sources, chosen)
    # First what takes no time, as there may be something wrong with it.
    spots = _read_spots(images, experiments, stills, sources)
    screening, audit = _screen(images, sources, earlier, model, chosen.eye)
    if finding is not None and images.stills is not None:
        spots = _find_spots(experiments, images, images.stills, sources, finding)
    return Evaluation(images, screening, spots, audit)


def log_table(table: Table) -> None:
    """A table as DIALS prints them, and its note."""
    text = tabulate(
        table.rows,
        headers=table.headers,
        disable_numparse=True,
        colalign=[
            "left" if i < table.n_left else "right" for i in range(len(table.headers))
        ],
    )
    logger.info("\n%s\n%s", table.title, text)
    if table.note:
        logger.info("%s", textwrap.fill(table.note, WIDTH))


def _check_sources(sources: Sources, has_images: bool) -> None:
    """Raise ValueError where there is nothing to evaluate, or too much."""
    counts = {
        "spot_counts": sources.spot_counts is not None,
        "reflections": sources.reflections is not None,
        "find_spots": sources.find_spots != "none",
    }
    given = [name for name, is_given in counts.items() if is_given]
    if len(given) > 1:
        raise ValueError(f"spots come from one of {' and '.join(given)}; leave one out")
    if not has_images and given[:1] in (["reflections"], ["find_spots"]):
        raise ValueError(f"{given[0]} needs the images: give the .expt file, or images")
    has_scores = sources.scores is not None or (
        has_images and sources.model is not None
    )
    if not has_scores and not given:
        raise ValueError(
            "nothing to compare with the labels: give images, scores=cnn_screen.json, "
            "or spot_counts=counts.txt"
        )
    if sources.min_spots is not None and not given:
        raise ValueError("min_spots needs spots: give find_spots, or counts of them")
    chooses = sources.training.fraction is not None
    if chooses and any(path is not None for path in sources.training.annotation):
        raise ValueError(
            "training.fraction and training.annotation both say on which images cuts "
            "in spots are chosen; leave one out"
        )


def _load_model(
    sources: Sources, earlier: ScreeningResults | None, has_images: bool
) -> Model | None:
    """The model that classifies the images, or that an eye is for; None if neither."""
    is_needed = earlier is None and (has_images or sources.eye.is_set)
    if not is_needed or sources.model is None:
        return None
    return load_model(sources.model)


def _choose_eye(
    sources: Sources, earlier: ScreeningResults | None, model: Model | None
) -> ChosenEye:
    """The eye, for the model or for the one that made the earlier scores."""
    if not sources.eye.is_set:
        return NO_EYE
    if earlier is not None:
        return choose_eye(sources.eye, earlier.model)
    if model is None:
        raise ValueError("model=None, and an eye is for a model; leave eye out")
    return choose_eye(sources.eye, ModelSummary.of(model))


def _read_labelled(
    stills: Sequence[Still] | None, sources: Sources, chosen: ChosenEye
) -> LabelledImages:
    """The labelled images but those that the eye was fitted to, which it knows."""
    training = sources.training
    images = read_labelled(sources.annotation, training.annotation, stills)
    n_labelled = len(images.names)
    images = images.without(chosen.fitted_to)
    if n_known := n_labelled - len(images.names):
        logger.info("Images that the eye was fitted to, left out: %d", n_known)
    if not images.names:
        raise ValueError(
            "the eye was fitted to all of the labelled images (eye.annotation); label "
            "others to evaluate it on"
        )
    if training.fraction is not None:
        images = images.with_training(training.fraction, training.random_seed)
    check_training_split(images.labels, images.training)
    splits = (
        ("Images to choose cuts in spots on", images.training),
        ("Images to evaluate on", ~images.training),
    )
    for title, split in splits:
        if n := split.sum():
            counts = count_labels(images.labels[split])
            logger.info("%s: %d (%s)", title, n, format_counts(counts))
    if stills is not None and len(stills) > n_labelled:
        logger.info("Images without a label, left out: %d", len(stills) - n_labelled)
    return images


def _screen(
    images: LabelledImages,
    sources: Sources,
    earlier: ScreeningResults | None,
    model: Model | None,
    eye: Eye | None,
) -> tuple[ScreeningResults | None, Audit | None]:
    """The model's results for the images, of an earlier run or now, and its audit."""
    decision = Decision(sources.decision.threshold, eye=eye)
    if earlier is not None:
        if eye is not None:
            check_own(earlier, str(sources.scores))
        screening = match_screening(images, earlier, str(sources.scores), decision)
        return screening, audit_rejected(earlier, images.names, images.labels)
    if images.stills is None or model is None:
        return None, None
    log_model(model)
    results = stream_results(images.stills, model, decision, sources.device, sources.mp)
    screened = in_order(follow(results, len(images.stills)))
    return ScreeningResults(ModelSummary.of(model), decision, screened), None


def _read_spots(
    images: LabelledImages,
    experiments: ExperimentList,
    stills: Sequence[Still] | None,
    sources: Sources,
) -> SpotFindingResults | None:
    """The spots of the images by a file of them."""
    if sources.spot_counts is not None:
        return read_spots(images, sources.spot_counts, sources.min_spots)
    if sources.reflections is None or stills is None:
        return None
    n_spots = count_in_table(sources.reflections, experiments, stills)
    place = {still.name: i for i, still in enumerate(stills)}
    chosen = [place[name] for name in images.names]
    return SpotFindingResults(n_spots[chosen], sources.reflections, sources.min_spots)


def _find_spots(
    experiments: ExperimentList,
    images: LabelledImages,
    stills: Sequence[Still],
    sources: Sources,
    finding: SpotFinding,
) -> SpotFindingResults:
    """The spots of the images, found now; stills: those of the images."""
    nproc = count_processes(sources.mp.nproc, len(stills))
    changes = format_changes(finding)
    logger.info(
        "Finding spots on %d image%s, nproc=%d, with DIALS's own parameters%s",
        len(stills),
        "s" * (len(stills) != 1),
        nproc,
        f" but for\n{changes}" if changes else "",
    )
    found = find_on_stills(experiments, stills, finding, nproc)
    return combine_spots(
        images,
        list(track(found, "Finding spots", len(stills))),
        changes,
        sources.min_spots or finding.min_spots,
    )
