"""Which images two screening runs share, their labels, and what is to be compared."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from dxtbx.model import ExperimentList

from dials_cnn_screen.evaluation.comparison import Comparison, Pair
from dials_cnn_screen.evaluation.run import Sources
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.labels.image_name import ImageName, NameIndex, short_names
from dials_cnn_screen.labels.label import Label, count_labels, format_counts
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD
from dials_cnn_screen.screening.results import ScreeningResults, read_results

logger = logging.getLogger("dials.cnn_evaluate")


def compare_runs(experiments: ExperimentList, sources: Sources) -> Comparison:
    """Bring the runs of sources.scores and sources.compare together.

    Args:
        experiments: Of images to show; empty without.
        sources: Which runs, and labels if any.

    Raises:
        ValueError: A file can't be read, the runs have to share images and do not, or a
            parameter is given that is not for this.
    """
    _check_sources(sources)
    paths = str(sources.scores), str(sources.compare)
    first, second = (_read_run(path) for path in paths)
    names = [[image.name for image in run.images] for run in (first, second)]
    places = _match(*names)
    if not places and sources.same_images:
        places = _match(*map(short_names, names))
    if not places:
        _check_no_match(paths, names, sources)
    labels = _read_labels(names, places, sources.annotation)
    shown = short_names([first.images[i].name for i in places])
    pairs = [
        Pair(name, first.images[i], second.images[j], labels.get(i))
        for name, (i, j) in zip(shown, places.items(), strict=True)
    ]
    pairs.sort(key=_order)
    if pairs:
        _log_matches(pairs, *names)
    stills = list_stills(experiments) if len(experiments) else ()
    return Comparison(paths, (first, second), pairs, stills)


def _check_sources(sources: Sources) -> None:
    """Raise ValueError where the first run is missing, or what is given is not used."""
    if sources.scores is None:
        raise ValueError(
            "compare needs the run to compare with: give scores=cnn_screen.json, too"
        )
    training = sources.training
    unused = {
        "decision.threshold": sources.decision.threshold != PAPER_THRESHOLD,
        "eye": sources.eye.is_set,
        "spot_counts": sources.spot_counts is not None,
        "reflections": sources.reflections is not None,
        "find_spots": sources.find_spots != "none",
        "min_spots": sources.min_spots is not None,
        "training": training.fraction is not None or any(training.annotation),
    }
    if given := [name for name, is_given in unused.items() if is_given]:
        raise ValueError(
            f"compare takes both runs as they are, without {' and '.join(given)}; "
            "leave that out"
        )


def _read_run(path: str) -> ScreeningResults:
    """The results in a scores file; ValueError where there is no image."""
    run = read_results(path)
    if not run.images:
        raise ValueError(f"'{path}' has no images; give that of another run")
    return run


def _match(first: Sequence[ImageName], second: Sequence[ImageName]) -> dict[int, int]:
    """The images of both runs: the place in the first, and that in the second.

    Raises:
        ValueError: An image of one could be several of the other.
    """
    index = NameIndex(second)
    places = {i: j for i, x in enumerate(first) if (j := index.find(x)) is not None}
    found: dict[int, int] = {}
    for i, j in places.items():
        if (other := found.setdefault(j, i)) != i:
            raise ValueError(
                f"{first[other]} and {first[i]} of the one run are one image of the "
                f"other, {second[j]}; screen each file once"
            )
    return places


def _check_no_match(
    paths: Sequence[str], names: Sequence[Sequence[ImageName]], sources: Sources
) -> None:
    """ValueError where runs without an image in common can't be compared.

    A warning where it is doubtful whether their images are different ones.
    """
    told = " and ".join(
        f"'{path}' ({len(of)} image{'s' * (len(of) != 1)}, the first {of[0]})"
        for path, of in zip(paths, names, strict=True)
    )
    if sources.same_images:
        raise ValueError(
            f"no image is in both {told}: no file has the same name in both; leave "
            "same_images out to compare runs of different images"
        )
    if any(sources.annotation):
        raise ValueError(
            f"no image is in both {told}, and labels are for runs of the same images; "
            "leave annotation out, or give same_images=True if the files were moved"
        )
    logger.info("Compared as runs of different images: no image is in both %s", told)
    first, second = ({(x.file, x.number) for x in of} for of in names)
    if alike := len(first & second):
        logger.warning(
            "%d image%s the same file name and number in both runs, in other folders. "
            "If these are the same images, moved since, give same_images=True",
            alike,
            " has" if alike == 1 else "s have",
        )


def _read_labels(
    names: Sequence[Sequence[ImageName]],
    places: dict[int, int],
    annotation: Sequence[str | None],
) -> dict[int, Label]:
    """Labels of images that both runs have, by their places in the first.

    Raises:
        ValueError: As match_labels does; also where no image of both has a label.
    """
    if not any(annotation):
        return {}
    first, second = names
    in_both = set(places.values())
    others = [name for j, name in enumerate(second) if j not in in_both]
    labels = match_labels([*first, *others], annotation)
    of_both = {i: label for i, label in labels.items() if i in places}
    if not of_both:
        raise ValueError("none of the images that both runs have is labelled")
    logger.info("Labels: %s", format_counts(count_labels(of_both.values())))
    if n := len(labels) - len(of_both):
        logger.info("Labelled images that only one of the runs has, left out: %d", n)
    return of_both


def _order(pair: Pair) -> tuple[bool, float, bool]:
    """By this the pairs are in the order that Comparison has."""
    return math.isnan(pair.difference), -abs(pair.difference), not pair.differs


def _log_matches(
    pairs: Sequence[Pair], first: Sequence[ImageName], second: Sequence[ImageName]
) -> None:
    logger.info("Images in both runs: %d", len(pairs))
    for which, names in (("first", first), ("second", second)):
        if n := len(names) - len(pairs):
            logger.info("Images of the %s run alone, left out: %d", which, n)
