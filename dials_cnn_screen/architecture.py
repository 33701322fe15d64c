"""What an architecture provides: one entry holds all in which networks differ.

The entries are ``spots/architecture.py`` (the default model) and
``ke2018/architecture.py`` (the networks of the paper); ``models/registry.py`` lists
them. What prepares, trains, screens and explains knows networks through this alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.label import Label

if TYPE_CHECKING:
    import torch
    from torch import nn

# Random crops are shifted by up to this many bins (section 2.2).
MAX_SHIFT = 120
# Candidates that are less likely a spot than this are left out of the results: by hand,
# so that a blank frame has few numbers to store. All 192 of a frame would be two spots.
LEAST_P_SPOT = 0.01
# Section 3.4.
PAPER_SCHEDULE = {"epochs": 120, "batches": 100, "batch_size": 64}


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A network as its file has it: enough where it runs without torch.

    Attributes:
        config: Its configuration, a dataclass.
        weights: float32, by name.
    """

    config: Any
    weights: dict[str, NDArray[np.float32]]

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """The weights, as a network of torch gives them."""
        return self.weights


def as_array(weights: Any) -> NDArray:
    """The weights of a layer, contiguous; of torch, on any device, or an array."""
    return np.ascontiguousarray(weights.cpu() if hasattr(weights, "cpu") else weights)


class Preparation(Protocol):
    """How a frame becomes a network's input; stored with the model."""

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON values."""


@dataclass(frozen=True, eq=False, slots=True)
class CandidateScores:
    """What may be spots on a frame, the strongest first; score_candidates makes one.

    Attributes:
        significance: float64 (n,), how far each stands out of the background, standard
            deviations.
        p_spot: float64 (n,), probability that it is a spot.
        places: int32 (n, 2), (slow, fast) pixel indices on the frame; None where not
            known.

    Raises:
        ValueError: They are not of one length, or a probability is not from 0 to 1.
    """

    significance: NDArray[np.float64]
    p_spot: NDArray[np.float64]
    places: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if self.significance.shape != self.p_spot.shape or self.p_spot.ndim != 1:
            raise ValueError("candidates are not pairs of significance and probability")
        if self.places is not None and self.places.shape != (*self.p_spot.shape, 2):
            raise ValueError("candidates do not have a place each")
        if not np.isfinite(self.significance).all():
            raise ValueError("the significance of a candidate is not finite")
        if not ((self.p_spot >= 0) & (self.p_spot <= 1)).all():
            raise ValueError("the probability of a candidate is not from 0 to 1")


def score_candidates(
    significance: NDArray[np.floating],
    spot_logits: NDArray[np.floating],
    places: NDArray[np.integer] | None = None,
) -> CandidateScores:
    """The candidates that may be spots, rounded as cnn_screen.json has them.

    Args:
        significance: (n,), standard deviations.
        spot_logits: (n,), ln(p / (1 - p)) of the probability p of a spot.
        places: (n, 2), as in CandidateScores.
    """
    p_spot = np.exp(-np.logaddexp(0, -spot_logits.astype(np.float64)))
    kept = p_spot >= LEAST_P_SPOT
    return CandidateScores(
        significance[kept].astype(np.float64).round(2),
        p_spot[kept].round(3),
        None if places is None else places[kept].astype(np.int32),
    )


class NetworkOutput(NamedTuple):
    """What a network makes of one frame.

    Attributes:
        logits: float32 (3,), z of equation 3 in the order of Label.
        features: float32 (f,), what its last layer tells the classes by.
        spots: int64 (n, 2), the candidates that are likelier a spot than not, (slow,
            fast) pixel indices on the frame, the strongest first; None from a network
            that does not look for spots.
        candidates: What may be spots; None as for spots.
        rings: Of each powder ring the candidates that are on it, int64 (m, 2), as
            spots; None as for spots.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    spots: NDArray[np.int64] | None
    candidates: CandidateScores | None = None
    rings: list[NDArray[np.int64]] | None = None


class Pipeline(Protocol):
    """A network on a device, with the preparation of its input."""

    def prepare(self, frame: Frame) -> Any:
        """The network's input."""

    def run(self, prepared: Any) -> NetworkOutput:
        """What the network makes of it."""


class BatchPipeline(Protocol):
    """Preparation and network on a device, for b frames of one layout at once."""

    def stages(self, frames: torch.Tensor) -> list[tuple[str, Callable[[], None]]]:
        """The steps of run, by name, in order.

        Args:
            frames: (b, slow, fast) of the layout's dtype, padded, on the device.
        """

    def run(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What output needs, (b, ...) each; overwritten by the next run."""

    def output(self, arrays: Sequence[NDArray], i: int) -> NetworkOutput | None:
        """What the network makes of frame i; None: it did not fit the kernels.

        Args:
            arrays: What run gave, on the CPU.
            i: From 0 to b - 1.
        """


@dataclass(frozen=True)
class Augmentation:
    """How a frame is varied each time that it is trained on.

    Attributes:
        shift: Crops are moved by up to this many bins along both axes.
        flips: Whether frames are flipped.
        quarter_turns: Whether frames are turned by multiples of 90 degrees.
        intensity: Prepared values are multiplied by a factor from 1 / (1 + intensity)
            to 1 + intensity.

    Raises:
        ValueError: A shift that training sets leave no room for, or an intensity below
            0.
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


class Batch(Protocol):
    """What a network takes at once."""

    def to(self, device: str) -> Any:
        """The same on a device."""


class TrainingSet(Protocol):
    """Prepared frames with labels."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (n,), values of Label."""

    def put(self, i: int, prepared: Any, label: int) -> None:
        """Store frame i, as prepare_for_training makes it."""

    def on(self, device: str) -> TrainingSet:
        """The same in the memory of a device, where its batches then are made."""

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Frames as the network takes them."""

    def augmented(
        self,
        indices: NDArray[np.int64],
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> Batch:
        """Frames as it takes them, varied at random."""

    def logits(self, output: Any) -> torch.Tensor:
        """The logits (b, 3) in what the network gives."""

    def loss(self, output: Any, indices: NDArray[np.int64]) -> torch.Tensor:
        """How wrong the network's output is."""

    def arrays(self) -> Iterator[NDArray]:
        """All that training depends on but for the labels."""


class Schedule(Protocol):
    """How long and how fast to learn: a dataclass whose fields are JSON values.

    ``training.NAME`` replaces the field of the name.

    Attributes:
        epochs: Passes.
        batches: In an epoch, as many frames of each class in each; None: every frame
            once.
        batch_size: Frames.
        patience: Stop after so many epochs that were no better; None: never.
    """

    @property
    def epochs(self) -> int: ...

    @property
    def batches(self) -> int | None: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def patience(self) -> int | None: ...

    def optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """What changes the weights."""

    def rate(
        self, optimiser: torch.optim.Optimizer, batches: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """What sets the learning rate after each batch; batches: in an epoch."""


def check_rate(learning_rate: float) -> None:
    """Raise ValueError for a learning rate of 0 or less."""
    if learning_rate <= 0:
        raise ValueError(f"learning_rate={learning_rate} teaches nothing")


@dataclass(frozen=True)
class Mark:
    """A circle about a pixel of the frame that says what the pixel does.

    Attributes:
        slow, fast: The pixel.
        share: From -1 to 1, of the mark that counts most; over 0 it speaks for a hit or
            makes the model less sure, as the explanation has it.
        large: Whether the circle is.
        text: What it says.
    """

    slow: int
    fast: int
    share: float
    large: bool
    text: str


@dataclass(frozen=True)
class Overlay:
    """Values that lie on the frame, square bins of pixels.

    Attributes:
        values: float64 (size, size), 0 where nothing is shown.
        threshold: The least absolute value that is shown.
        slow, fast: The first pixel of the frame under it; may lie outside.
        binning: Pixels along the edge of a bin.
    """

    values: NDArray[np.float64]
    threshold: float
    slow: int
    fast: int
    binning: int


@dataclass(frozen=True)
class Explanation:
    """Why a network classified a frame as it did.

    Attributes:
        sentences: What the marks say.
        marks: In any order.
        numbers: The same for JSON.
        overlay: None where there is none.
    """

    sentences: list[str]
    marks: list[Mark]
    numbers: dict[str, Any]
    overlay: Overlay | None = field(default=None)


class Architecture(Protocol):
    """All in which one kind of network differs from another.

    Its methods are given networks and preparations that it made itself.
    """

    @property
    def name(self) -> str:
        """As in model files and in ``architecture=``."""

    def preparation(self, **values: Any) -> Preparation:
        """The preparation of the input; values replace the usual ones.

        Raises:
            ValueError: There are no such values.
        """

    def network(self, **configuration: Any) -> nn.Module:
        """A network with fresh weights; values replace those of the configuration.

        Its ``config`` is a dataclass. Raises ValueError for values that can't be.
        """

    def stored_network(
        self, configuration: dict[str, Any], weights: dict[str, NDArray]
    ) -> StoredNetwork | None:
        """What pipeline takes for a network on the CPU, check and n_features anywhere.

        None where all of these take torch. Raises ValueError for what is no network's.
        """

    def check(self, network: Any, preparation: Any) -> None:
        """Raise ValueError where a network is fed with what it does not take."""

    def n_features(self, network: Any) -> int:
        """Length of the feature vector of a frame."""

    def max_spots(self, preparation: Any) -> int | None:
        """How many spots of a frame are found at most; None: none are looked for."""

    def pipeline(self, network: Any, preparation: Any, device: str) -> Pipeline:
        """The network made ready to classify on cpu or cuda."""

    def has_kernels(self, preparation: Any) -> bool:
        """Whether there are kernels for a GPU; then there is batches."""

    def batches(
        self, network: Any, preparation: Any, layout: Layout, batch: int, device: str
    ) -> BatchPipeline:
        """Preparation and network on a GPU, for batches of frames of one layout."""

    def schedule(self, name: str, from_model: bool) -> Schedule:
        """How the network is trained: short or paper, from a model or fresh weights."""

    def freeze(self, network: Any) -> None:
        """Keep what is not fitted to new labels when training starts from a model."""

    def training_bytes(self, preparation: Any) -> int:
        """What a frame takes in the training set."""

    def on_disk(self) -> bool:
        """Whether the training set is a file, not in memory."""

    def prepare_for_training(self, frame: Frame, preparation: Any) -> Any:
        """What a training set stores of a frame."""

    def training_set(self, n: int, preparation: Any, folder: Path) -> TrainingSet:
        """An empty training set for n frames; on disk in folder, if it is large."""

    def explain(
        self,
        network: Any,
        preparation: Any,
        frame: Frame,
        temperature: float,
        predicted: Label,
        labelled: Label | None,
    ) -> Explanation:
        """Why a frame got the class that it got; labelled: by an expert."""
