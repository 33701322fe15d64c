"""Labelled images shared out: to train on, to choose and calibrate by, to test with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dials_cnn_screen.labels.label import Label

# Fewer images of a class to train on, or to choose by, than these are worth a warning.
FEW = {"training": 4, "validation": 1}


class Parts(NamedTuple):
    """Indices of images, int64, ascending: which part each image belongs to."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_at_random(labels: np.ndarray, fractions: Sequence[float], seed: int) -> Parts:
    """Parts drawn at random, of each class alike.

    labels: (n,). fractions: of the three parts, for instance (0.5, 0.2, 0.3) as in
    section 3.4. Raises ValueError if all are 0.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    return _cut([order[labels[order] == c] for c in np.unique(labels)], fractions)


def split_by_position(groups: Sequence[object], fractions: Sequence[float]) -> Parts:
    """Parts one after the other in each group: training, validation, test.

    So the deposited code of the paper has it, within its file. groups: (n,), which
    group each image is of, for instance its file. Raises ValueError if all fractions
    are 0.
    """
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return _cut([np.array(indices) for indices in members.values()], fractions)


def count_classes(labels: np.ndarray) -> dict[str, int]:
    """Number of images of each class, by its lower-case name."""
    counts = np.bincount(labels, minlength=len(Label))
    return {x.name.lower(): int(n) for x, n in zip(Label, counts, strict=True)}


def check_parts(labels: np.ndarray, parts: Parts) -> list[str]:
    """What is wanting in the parts, a line each; labels: (n,).

    Raises ValueError where nothing can be learned: no images, or of one class alone.
    """
    remarks = []
    for name, few in FEW.items():
        part = getattr(parts, name)
        counts = count_classes(labels[part])
        there = [x for x, n in counts.items() if n]
        if not there:
            raise ValueError(f"the {name} part has no images; label more of them")
        if counts["miss"] in (0, len(part)):
            raise ValueError(
                f"all {len(part)} images of the {name} part are "
                f"{' or '.join(x.capitalize() for x in there)}: nothing to tell apart; "
                f"label some that are {'Hits' if counts['miss'] else 'Misses'}"
            )
        remarks += [
            f"{n or 'none'} of the {len(part)} {name} images is {x.capitalize()}"
            for x, n in counts.items()
            if n < few
        ]
    return remarks


def _cut(groups: Sequence[np.ndarray], fractions: Sequence[float]) -> Parts:
    """The same fractions of every group of indices, from its beginning on."""
    if not sum(fractions) > 0:
        raise ValueError(f"fractions={tuple(fractions)} leave no part any images")
    shares = np.cumsum(fractions) / sum(fractions)
    # A half is rounded up: of one image, the training part has it.
    cut = [np.split(g, np.floor(shares[:2] * len(g) + 0.5).astype(int)) for g in groups]
    none = np.empty(0, np.int64)
    return Parts(
        *(np.sort(np.concatenate([none, *(c[k] for c in cut)])) for k in range(3))
    )
