"""Labelled images split into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.label import Label, count_labels

# Fewer images of a class to train on, or to choose by, than these are worth a warning.
FEW = {"training": 4, "validation": 1}


class Splits(NamedTuple):
    """Indices of images, int64, ascending: which split each image belongs to."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_at_random(
    labels: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> Splits:
    """Splits drawn at random, of each class alike.

    labels: (n,). fractions: of the three splits, for instance (0.5, 0.2, 0.3) as in
    section 3.4. Raises ValueError if all are 0.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    return _cut([order[labels[order] == c] for c in np.unique(labels)], fractions)


def split_by_position(groups: Sequence[object], fractions: Sequence[float]) -> Splits:
    """Splits one after the other in each group: training, validation, test.

    So the deposited code of the paper has it, within its file. groups: (n,), which
    group each image is of, for instance its file. Raises ValueError if all fractions
    are 0.
    """
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return _cut([np.array(indices) for indices in members.values()], fractions)


def check_splits(labels: NDArray[np.int64], splits: Splits) -> list[str]:
    """What is wanting in the splits, a line each; labels: (n,).

    Raises:
        ValueError: Nothing can be learned: no images, or of one class alone.
    """
    remarks = []
    for name, few in FEW.items():
        split = getattr(splits, name)
        counts = count_labels(labels[split])
        there = [label.title for label, n in counts.items() if n]
        if not there:
            raise ValueError(f"the {name} split has no images; label more of them")
        n_misses = counts[Label.MISS]
        if n_misses in (0, len(split)):
            raise ValueError(
                f"all {len(split)} images of the {name} split are "
                f"{' or '.join(there)}: nothing to tell apart; label some that are "
                f"{'Hits' if n_misses else 'Misses'}"
            )
        remarks += [
            f"{n or 'none'} of the {len(split)} {name} images "
            f"{'are' if n > 1 else 'is'} {label.title}"
            for label, n in counts.items()
            if n < few
        ]
    return remarks


def _cut(groups: Sequence[np.ndarray], fractions: Sequence[float]) -> Splits:
    """The same fractions of every group of indices, from its beginning on."""
    if not sum(fractions) > 0:
        raise ValueError(f"fractions={tuple(fractions)} leave no split any images")
    shares = np.cumsum(fractions) / sum(fractions)
    # A half is rounded up: of one image, the training split has it.
    cut = [np.split(g, np.floor(shares[:2] * len(g) + 0.5).astype(int)) for g in groups]
    none = np.empty(0, np.int64)
    return Splits(
        *(np.sort(np.concatenate([none, *(c[k] for c in cut)])) for k in range(3))
    )
