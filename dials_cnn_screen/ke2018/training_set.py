"""Prepared frames with labels, kept on disk so that training waits for no reading."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dials_cnn_screen.ke2018.preprocessing import Preprocessing

# Random crops are shifted by up to this many bins (section 2.2).
MAX_SHIFT = 120


@dataclass(frozen=True)
class Augmentation:
    """How a frame is varied each time that it is trained on.

    shift: crops are moved by up to this many bins along both axes. flips,
    quarter_turns: whether frames are flipped and turned. intensity: prepared values are
    multiplied by a factor from 1 / (1 + intensity) to 1 + intensity. Raises ValueError
    for a shift that datasets leave no room for, and an intensity below 0.
    """

    shift: int = MAX_SHIFT
    flips: bool = True
    quarter_turns: bool = True
    intensity: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= MAX_SHIFT:
            raise ValueError(f"shift={self.shift} is not from 0 to {MAX_SHIFT}")
        if not 0 <= self.intensity < np.inf:
            raise ValueError(f"intensity={self.intensity} is not 0 or more")


@dataclass(frozen=True)
class Dataset:
    """Prepared frames, wider than a network's input by MAX_SHIFT on each side.

    images: float16 (n, edge, edge), may be a memory-mapped file. labels: int64 (n,),
    values of Label.
    """

    images: np.ndarray
    labels: np.ndarray

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """Frames cropped about q = 0, float32 (b, 1, size, size)."""
        window = slice(MAX_SHIFT, self.images.shape[1] - MAX_SHIFT)
        return _as_batch([self.images[i, window, window] for i in indices])

    def augmented(
        self, indices: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
    ) -> torch.Tensor:
        """Frames cropped, flipped and turned at random; float32 (b, 1, size, size)."""
        size = self.images.shape[1] - 2 * MAX_SHIFT
        return _as_batch(
            [_augment(self.images[i], size, augmentation, rng) for i in indices]
        )

    def loss(self, scores: torch.Tensor, indices: np.ndarray) -> torch.Tensor:
        """Cross-entropy of class scores (b, 3), -mean(log y_class).

        That is what equation 4 means.
        """
        labels = torch.from_numpy(self.labels[indices]).to(scores.device)
        return nn.functional.cross_entropy(scores, labels)


def wide(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a dataset's frames, which leaves room for random crops."""
    return replace(preprocessing, size=preprocessing.size + 2 * MAX_SHIFT)


def allocate_images(path: Path, n: int, preprocessing: Preprocessing) -> np.ndarray:
    """A new memory-mapped float16 array for n frames; 2 bytes a bin, 1.8 MB a frame."""
    edge = wide(preprocessing).size
    return np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(n, edge, edge)
    )


def allocate_unnamed(folder: Path, n: int, preprocessing: Preprocessing) -> np.ndarray:
    """As allocate_images, in a file of folder that has no name.

    It goes with the array, and so with the process, however that ends.
    """
    edge = wide(preprocessing).size
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float16, "w+", shape=(n, edge, edge))


def as_stored(frame: np.ndarray) -> np.ndarray:
    """A prepared frame as float16; what is beyond its range, 65504, is cut to it."""
    largest = np.finfo(np.float16).max
    return np.clip(frame, -largest, largest).astype(np.float16)


def _augment(
    image: np.ndarray, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    least, most = MAX_SHIFT - augmentation.shift, MAX_SHIFT + augmentation.shift
    row, column = rng.integers(least, most + 1, size=2)
    image = image[row : row + size, column : column + size]
    # Drawn in any case, so that the crops do not depend on what else is wanted.
    flipped, turns = rng.random() < 0.5, rng.integers(4)
    if flipped and augmentation.flips:
        image = image[::-1]
    if augmentation.quarter_turns:
        image = np.rot90(image, turns)
    if augmentation.intensity:
        largest = np.log1p(augmentation.intensity)
        image = image * np.float32(np.exp(rng.uniform(-largest, largest)))
    return image


def _as_batch(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).float()[:, None]
