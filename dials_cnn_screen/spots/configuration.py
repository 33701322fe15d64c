"""Widths of the spot network's layers, and the shapes of its weights; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from numpy.typing import NDArray

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import PATCH
from dials_cnn_screen.spots.features import N_FRAME, N_SCALARS

# Numbers that say how many spots there are.
N_COUNTS = 4
# The logits of the classes follow from how many spots there are; what else describes
# the frame changes each by this much at most. On a frame unlike all of the training
# that may be far off, while a spot looks the same. Chosen among 2 and 3 by the loss on
# the validation split.
HEAD_LIMIT = 3.0


@dataclass(frozen=True)
class SpotNetworkConfig:
    """Widths of the layers.

    By hand; half of these widths is a little worse (studies/ablation.py).

    Attributes:
        patch: Of the code of a patch.
        candidate: Of the code of a candidate, patch and features.
        context: Of the code of the frame.
        count: Of the hidden layer that tells the classes by the number of spots.
        head: Of the hidden layer that corrects them by all that is known of the frame.

    Raises:
        ValueError: A width is not an integer from 1 to 1024.
    """

    patch: int = 64
    candidate: int = 48
    context: int = 48
    count: int = 16
    head: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or not 1 <= value <= 1024:
                raise ValueError(f"{name}={value} is not from 1 to 1024")

    @property
    def n_features(self) -> int:
        """What the head takes: context, code of the spots, numbers of spots."""
        return self.context + self.candidate + N_COUNTS

    def layers(self) -> dict[str, tuple[int, int]]:
        """Shape (out, in) of each layer's weights, by its name in SpotNetwork."""
        return {
            "patch.0": (self.patch, 2 * PATCH * PATCH),
            "patch.2": (self.patch, self.patch),
            "code.1": (self.candidate, self.patch + N_SCALARS),
            "context.0": (self.context, 2 * self.candidate + N_FRAME),
            "spot.0": (self.candidate, self.candidate + self.context),
            "spot.2": (1, self.candidate),
            "count.0": (self.count, N_COUNTS),
            "count.2": (len(Label), self.count),
            "head.0": (self.head, self.n_features),
            "head.2": (len(Label), self.head),
        }


def check_weights(config: SpotNetworkConfig, weights: Mapping[str, NDArray]) -> None:
    """Raise ValueError where weights, by name, are not those of such a network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n_out, n_in) in config.layers().items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (n_out, n_in), (n_out,)
    for name in sorted(shapes.keys() | weights.keys()):
        if name not in weights:
            raise ValueError(
                f'damaged, or of another version: it has no "{name}"; train it again'
            )
        if name not in shapes:
            raise ValueError(f'damaged: it has "{name}", and its network has not')
        if weights[name].shape != shapes[name] or weights[name].dtype.kind != "f":
            raise ValueError(
                f'damaged: its "{name}" is {weights[name].dtype} '
                f"{weights[name].shape}, and its network has numbers {shapes[name]}"
            )
