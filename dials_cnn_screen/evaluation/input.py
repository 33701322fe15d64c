"""Labels, screening results and spot counts of the same images, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.spotfinding import SpotResult
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.annotation import read_annotations
from dials_cnn_screen.labels.image_name import (
    ImageName,
    NameIndex,
    format_names,
    short_names,
)
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ScreeningResults,
    decide_again,
)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images that an expert labelled.

    Attributes:
        names: As the images are called, or as the labels call them without images.
        labels: int64 (n,), values of Label.
        training: bool (n,), those on which cuts in spots are chosen.
        stills: The images themselves; None without.
    """

    names: list[ImageName]
    labels: NDArray[np.int64]
    training: NDArray[np.bool_]
    stills: list[Still] | None

    def with_training(self, fraction: float, seed: int) -> LabelledImages:
        """With a fraction of the images drawn for training."""
        n = len(self.names)
        order = np.random.default_rng(seed).permutation(n)
        chosen = np.isin(np.arange(n), order[: round(fraction * n)])
        return replace(self, training=chosen)

    def without(self, names: Sequence[ImageName]) -> LabelledImages:
        """All but the images of these names."""
        others = NameIndex(names)
        left = [i for i, name in enumerate(self.names) if others.find(name) is None]
        return replace(
            self,
            names=[self.names[i] for i in left],
            labels=self.labels[left],
            training=self.training[left],
            stills=self.stills and [self.stills[i] for i in left],
        )

    def display_names(self) -> list[ImageName]:
        """Names with as much of the path as tells the images apart."""
        return short_names(self.names)


@dataclass(frozen=True, eq=False)
class SpotFindingResults:
    """The spots of the labelled images.

    Attributes:
        n_spots: int64 (n,), number of spots on each.
        source: The program or the file that they are from.
        min_spots: The cut: images with so many spots or more are kept; None without.
        parameters: Of the program, those that are not its own, in PHIL form; None where
            not known.
        seconds: Mean time to read an image, and to find its spots; None where not
            known.
        remarks: What a user should know of the counts, a line each.
    """

    n_spots: NDArray[np.int64]
    source: str
    min_spots: int | None
    parameters: str | None = None
    seconds: dict[str, float] | None = None
    remarks: tuple[str, ...] = ()


def read_labelled(
    annotation: Sequence[str | None],
    training: Sequence[str | None],
    stills: Sequence[Still] | None,
) -> LabelledImages:
    """The images that are labelled in annotation files.

    Args:
        annotation: Files with the labels of images to evaluate on.
        training: Files with those of images to choose cuts in spots on.
        stills: The images; None takes every image that is labelled to be there.

    Raises:
        ValueError: As match_labels does; also where an image is in both kinds of files.
    """
    if not any(annotation):
        raise ValueError("no labels: give annotation=labels.txt")
    files = [path for path in (*annotation, *training) if path is not None]
    if stills is None:
        annotations = [a for path in files for a in read_annotations(path)]
        names = list(dict.fromkeys(a.name for a in annotations))
    else:
        names = [still.name for still in stills]
    labelled = match_labels(names, files)
    for_training = match_labels(names, training) if any(training) else {}
    return LabelledImages(
        [names[i] for i in labelled],
        np.array(list(labelled.values()), dtype=np.int64),
        np.array([i in for_training for i in labelled]),
        None if stills is None else [stills[i] for i in labelled],
    )


def match_screening(
    images: LabelledImages,
    earlier: ScreeningResults,
    path: str | Path,
    decision: Decision,
) -> ScreeningResults:
    """The results of an earlier run for the images, by another decision.

    Args:
        images: Are found by their names.
        earlier: All results of that run.
        path: Where they were read from.
        decision: Says which images are kept.

    Raises:
        ValueError: The run does not have all of the images, or a name could be of
            several of its images.
    """
    index = NameIndex([image.name for image in earlier.images])
    found: dict[int, ImageName] = {}
    missing = []
    for name in images.names:
        i = index.find(name)
        if i is None:
            missing.append(name)
        elif i in found:
            raise ValueError(
                f"{found[i]} and {name} are one image in '{path}', and both are "
                "labelled; keep one of the two lines"
            )
        else:
            found[i] = name
    if missing:
        raise ValueError(
            f"'{path}' lacks {_count(missing, 'labelled image')}: "
            f"{format_names(missing)}; screen these too, or label them None"
        )
    results = [decide_again(earlier.images[i], decision) for i in found]
    return ScreeningResults(earlier.model, decision, results)


def read_spots(
    images: LabelledImages, path: str | Path, min_spots: int | None
) -> SpotFindingResults:
    """The spots of the images by a file of counts; without a line there are none.

    Raises:
        ValueError: The file is not one, or the images are of several files: the counts
            do not say which is which.
    """
    counts = read_spot_counts(path)
    if len(files := list(dict.fromkeys(name.path for name in images.names))) > 1:
        raise ValueError(
            f"spot_counts are of the images of one file, and images of {len(files)} "
            f"are labelled ({', '.join(files[:3])}); evaluate one file at a time"
        )
    numbers = [name.number for name in images.names]
    remarks = []
    if others := sorted(counts.by_number.keys() - set(numbers)):
        remarks.append(
            f"{_count(others, 'line')} of {path} left out: there is no label for image "
            f"{others[0]}{' and others' if len(others) > 1 else ''}"
        )
    if without := [number for number in numbers if number not in counts.by_number]:
        remarks.append(
            f"{_count(without, 'image')} without a line in {path}: counted as without "
            "spots"
        )
    if min_spots is not None and not counts.agrees_with(min_spots):
        remarks.append(
            f"the classes in {path} are not those of min_spots={min_spots}: there a "
            f"Hit has {counts.fewest_of_hit} spots, a Miss {counts.most_of_miss}; the "
            "classes are not used"
        )
    n_spots = np.array([counts.by_number.get(number, 0) for number in numbers])
    return SpotFindingResults(n_spots, str(path), min_spots, remarks=tuple(remarks))


def combine_spots(
    images: LabelledImages,
    found: Sequence[SpotResult],
    parameters: str,
    min_spots: int | None,
) -> SpotFindingResults:
    """The spots that dials.find_spots found on the images; none where it failed.

    Raises:
        ValueError: It failed on all of them.
    """
    failed = [
        f"{name}: {spots.error}"
        for name, spots in zip(images.display_names(), found, strict=True)
        if spots.error is not None
    ]
    if len(failed) == len(found):
        raise ValueError(
            f"dials.find_spots failed on every image ({failed[0]}); check what is set "
            "under spotfinder"
        )
    gave_up = [s for s in found if s.n_spots is None and s.error is None]
    remarks = []
    if failed:
        remarks.append(
            f"dials.find_spots failed on {_count(failed, 'image')}, counted as without "
            f"spots; {failed[0]}"
        )
    if gave_up:
        remarks.append(
            f"dials.find_spots gave up on {_count(gave_up, 'image')} with too many "
            "strong pixels, counted as without spots; raise the gain or the threshold"
        )
    seconds = np.mean([s.seconds for s in found if s.error is None], axis=0)
    return SpotFindingResults(
        np.array([s.n_spots or 0 for s in found]),
        "dials.find_spots",
        min_spots,
        parameters,
        dict(zip(("reading", "finding"), seconds.round(4).tolist(), strict=True)),
        tuple(remarks),
    )


def _count(things: Sequence, noun: str) -> str:
    """How many there are: ``1 image``, ``2 images``."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"
