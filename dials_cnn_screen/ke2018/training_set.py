"""Prepared frames with labels, kept on disk so that training waits for no reading."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dials_cnn_screen.architecture import MAX_SHIFT, Augmentation, check_rate
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.util.devices import take


@dataclass(frozen=True)
class Dataset:
    """Prepared frames, wider than a network's input by MAX_SHIFT on each side.

    Attributes:
        images: float16 (n, edge, edge), may be a memory-mapped file.
        labels: int64 (n,), values of Label.
    """

    images: NDArray[np.float16]
    labels: NDArray[np.int64]

    def batch(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Frames cropped about q = 0, float32 (b, 1, size, size)."""
        window = slice(MAX_SHIFT, self.images.shape[1] - MAX_SHIFT)
        return take(self.images[:, window, window], indices).float()[:, None]

    def augmented(
        self,
        indices: NDArray[np.int64],
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """Frames cropped, flipped and turned at random; float32 (b, 1, size, size)."""
        size = self.images.shape[1] - 2 * MAX_SHIFT
        images = [_augment(self.images, i, size, augmentation, rng) for i in indices]
        return torch.stack(images).float()[:, None]

    def on(self, device: str) -> Dataset:
        """The same, the images as a tensor on a device."""
        return replace(self, images=torch.tensor(self.images, device=device))

    def put(self, i: int, prepared: NDArray[np.float16], label: int) -> None:
        """Store frame i, as as_stored makes it."""
        self.images[i], self.labels[i] = prepared, label

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        """The logits (b, 3): all that the network gives."""
        return output

    def loss(self, output: torch.Tensor, indices: NDArray[np.int64]) -> torch.Tensor:
        """Cross-entropy of the logits (b, 3), -mean(log y_class).

        That is what equation 4 means.
        """
        labels = torch.from_numpy(self.labels[indices]).to(output.device)
        return nn.functional.cross_entropy(output, labels)

    def arrays(self) -> Iterator[NDArray]:
        """The images."""
        yield self.images


def with_margin(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a dataset's frames, which leaves room for random crops."""
    return replace(preprocessing, size=preprocessing.size + 2 * MAX_SHIFT)


def allocate_images(
    path: Path, n: int, preprocessing: Preprocessing
) -> NDArray[np.float16]:
    """A new memory-mapped float16 array for n frames; 2 bytes a bin, 1.8 MB a frame."""
    edge = with_margin(preprocessing).size
    return np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(n, edge, edge)
    )


def allocate_unnamed(
    folder: Path, n: int, preprocessing: Preprocessing
) -> NDArray[np.float16]:
    """As allocate_images, in a file of folder that has no name.

    It goes with the array, and so with the process, however that ends.
    """
    edge = with_margin(preprocessing).size
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float16, "w+", shape=(n, edge, edge))


def as_stored(frame: NDArray[np.float32]) -> NDArray[np.float16]:
    """A prepared frame as float16; what is beyond its range, 65504, is clipped."""
    largest = np.finfo(np.float16).max
    return np.clip(frame, -largest, largest).astype(np.float16)


def _augment(
    images: NDArray[np.float16] | torch.Tensor,
    i: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Image i, float16 (size, size), where the images are."""
    least, most = MAX_SHIFT - augmentation.shift, MAX_SHIFT + augmentation.shift
    row, column = rng.integers(least, most + 1, size=2)
    window = images[:, row : row + size, column : column + size]
    image = take(window, np.array([i]))[0]
    # Drawn in any case, so that the crops do not depend on what else is wanted.
    flipped, turns = rng.random() < 0.5, rng.integers(4)
    if flipped and augmentation.flips:
        image = image.flip(0)
    if augmentation.quarter_turns:
        image = torch.rot90(image, int(turns))
    if augmentation.intensity:
        largest = np.log1p(augmentation.intensity)
        image = image * float(np.exp(rng.uniform(-largest, largest)))
    return image


@dataclass(frozen=True)
class ImageSchedule:
    """How long and how fast to learn (section 3.4; weight decay of the deposited code).

    Stochastic gradient descent without momentum, as in equation 5: with it, a rate of
    0.1 does not converge.

    Attributes:
        epochs: Passes.
        batches: In an epoch, as many frames of each class in each; None: every frame
            once.
        batch_size: Frames.
        learning_rate: At the start; it falls exponentially.
        final_learning_rate: At the end.
        weight_decay: Of all weights.
        patience: Stop after so many epochs that were no better; None: never.

    Raises:
        ValueError: A learning_rate of 0 or less.
    """

    epochs: int = 120
    batches: int | None = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    final_learning_rate: float = 0.0001
    weight_decay: float = 5e-4
    patience: int | None = None

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)

    def optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """What changes the weights."""
        return torch.optim.SGD(
            weights, lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def rate(
        self, optimiser: torch.optim.Optimizer, batches: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """What sets the learning rate after each batch; batches: in an epoch."""
        decay = self.final_learning_rate / self.learning_rate
        return torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda n: decay ** (n // batches / max(1, self.epochs - 1))
        )


# From fresh weights, and from a model.
SHORT = ImageSchedule(epochs=30, batches=50)
SHORT_FROM_MODEL = ImageSchedule(epochs=15, batches=25, learning_rate=0.01)
