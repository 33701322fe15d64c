"""Which labelled images train the network, which select and which test it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_given_splits, match_labels
from dials_cnn_screen.labels.splits import (
    Splits,
    split_at_random,
    split_by_position,
)


@dataclass(frozen=True)
class SplitRule:
    """The parameters of split.

    Attributes:
        method: random, position or given.
        fractions: Of training, validation and test; None is an error.
        validation: Annotation files, for given.
        test: Annotation files, for given.
    """

    method: str
    fractions: tuple[float, float, float] | None
    validation: Sequence[str | None]
    test: Sequence[str | None]


def split_labelled(
    names: Sequence[ImageName],
    annotation: Sequence[str | None],
    rule: SplitRule,
    seed: int,
) -> tuple[dict[int, Label], Splits]:
    """The labelled images, by index into names, and their splits.

    Args:
        names: Of all images.
        annotation: Annotation files; of the training split alone, if splits are given.
        rule: How to split them.
        seed: For random splits.

    Returns:
        Labels as of match_labels, and splits that count the labelled images from 0.

    Raises:
        ValueError: The labels do not match the images, or the parameters of the rule do
            not go together.
    """
    if rule.method == "given":
        if not any(rule.validation):
            raise ValueError("split.method=given: give split.validation too")
        return match_given_splits(names, annotation, rule.validation, rule.test)
    if given := [*filter(None, rule.validation), *filter(None, rule.test)]:
        raise ValueError(
            "split.validation and split.test are for split.method=given, and it is "
            f"{rule.method}; leave {given[0]} out, or set split.method=given"
        )
    if rule.fractions is None:
        raise ValueError("split.fractions=None: give three, such as 0.5,0.2,0.3")
    labelled = match_labels(names, annotation)
    if rule.method == "position":
        groups = _group_by_file([names[i] for i in labelled])
        return labelled, split_by_position(groups, rule.fractions)
    labels = np.array(list(labelled.values()), np.int64)
    return labelled, split_at_random(labels, rule.fractions, seed)


def _group_by_file(names: Sequence[ImageName]) -> list[str]:
    """The file of each image, within which it has a position.

    Images that are alone in their files make one group.
    """
    number = Counter(name.path for name in names)
    return [name.path if number[name.path] > 1 else "" for name in names]
