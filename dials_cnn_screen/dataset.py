"""Prepared frames with labels, kept on disk so that training waits for no reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.labels import Label
from dials_cnn_screen.preprocessing import Preprocessing

# Random crops are shifted by up to this many bins (section 2.2).
MAX_SHIFT = 120


@dataclass(frozen=True)
class Dataset:
    """Prepared frames, wider than a network's input by MAX_SHIFT on each side.

    images: float16 (n, edge, edge), may be a memory-mapped file. labels: int64 (n,),
    values of Label.
    """

    images: np.ndarray
    labels: np.ndarray


def wide(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a dataset's frames, which leaves room for random crops."""
    return replace(preprocessing, size=preprocessing.size + 2 * MAX_SHIFT)


def allocate_images(path: Path, n: int, preprocessing: Preprocessing) -> np.ndarray:
    """A new memory-mapped float16 array for n frames; 2 bytes a bin, 1.8 MB a frame."""
    edge = wide(preprocessing).size
    return np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(n, edge, edge)
    )


def as_stored(frame: np.ndarray) -> np.ndarray:
    """A prepared frame as float16; what is beyond its range, 65504, is cut to it."""
    largest = np.finfo(np.float16).max
    return np.clip(frame, -largest, largest).astype(np.float16)


def split(
    n: int, fractions: tuple[float, float, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the training, validation and test parts, drawn at random.

    fractions: of the three parts, for instance (0.5, 0.2, 0.3) as in section 3.4.
    Raises ValueError if all are 0.
    """
    if not sum(fractions) > 0:
        raise ValueError(f"fractions={fractions} leave no part any images")
    order = np.random.default_rng(seed).permutation(n)
    ends = np.round(np.cumsum(fractions) / sum(fractions) * n).astype(int)
    training, validation, test = np.split(order, ends[:2])
    return np.sort(training), np.sort(validation), np.sort(test)


def centre_crops(
    dataset: Dataset, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of frames cropped about q = 0, in order: (b, 1, size, size) and (b,)."""
    size = dataset.images.shape[1] - 2 * MAX_SHIFT
    window = slice(MAX_SHIFT, MAX_SHIFT + size)
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        images = np.stack([dataset.images[i, window, window] for i in chosen])
        yield _as_batch(images, dataset.labels[chosen])


def balanced_batches(
    dataset: Dataset,
    indices: np.ndarray,
    batch_size: int,
    n_batches: int,
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random batches with as many frames of each class that there is (section 2.1.3).

    Each frame is cropped at random (shifts up to MAX_SHIFT), flipped and turned.
    """
    labels = dataset.labels[indices]
    by_class = [indices[labels == c] for c in Label if np.any(labels == c)]
    size = dataset.images.shape[1] - 2 * MAX_SHIFT
    for _ in range(n_batches):
        classes = rng.permutation(np.arange(batch_size) % len(by_class))
        chosen = np.array([rng.choice(by_class[c]) for c in classes])
        images = np.stack([_augment(dataset.images[i], size, rng) for i in chosen])
        yield _as_batch(images, dataset.labels[chosen])


def _augment(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    row, column = rng.integers(0, 2 * MAX_SHIFT + 1, size=2)
    image = image[row : row + size, column : column + size]
    if rng.random() < 0.5:
        image = image[::-1]
    return np.rot90(image, rng.integers(4))


def _as_batch(
    images: np.ndarray, labels: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(images).float()[:, None], torch.from_numpy(labels)
