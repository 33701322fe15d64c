"""The network of Ke et al. (2018), J. Synchrotron Rad. 25, 655, section 2.1.

As printed and, with another configuration, as deposited (nksauter/fv5080 on GitHub).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dials_cnn_screen.labels.label import Label


@dataclass(frozen=True)
class Ke2018Config:
    """The stages of the network: four in Fig. 2, with the values here.

    Odd edges, and a pool of 2, make every layer halve the size, rounded up.

    Attributes:
        size: Edge of the square input, bins.
        channels: Feature maps after each stage.
        first_kernel: Edge of the first convolution, 3 as printed and 7 as deposited;
            the others are 3.
        first_pool: Edge of the first max-pool, 2 as printed and 3 as deposited; the
            others are 2.

    Raises:
        ValueError: Values that no network has.
    """

    size: int = 720
    channels: tuple[int, ...] = (4, 8, 16, 32)
    first_kernel: int = 3
    first_pool: int = 2

    def __post_init__(self) -> None:
        # A list, as JSON has it, is taken for a tuple.
        object.__setattr__(self, "channels", tuple(self.channels))
        # Values can come from a file of somebody else's: bound what they may ask for.
        limited = [
            ("size", self.size, 1, 8192),
            ("first_kernel", self.first_kernel, 3, 15),
            ("first_pool", self.first_pool, 1, 15),
            *(("channels", k, 1, 1024) for k in self.channels),
        ]
        for name, value, low, high in limited:
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name}={value} is not from {low} to {high}")
        if not 1 <= len(self.channels) <= 8:
            raise ValueError(f"{len(self.channels)} stages are not from 1 to 8")
        if self.first_kernel % 2 == 0:
            raise ValueError(f"first_kernel={self.first_kernel} is not odd")
        if self.first_pool % 2 == 0 and self.first_pool != 2:
            raise ValueError(f"first_pool={self.first_pool} is neither odd nor 2")
        if self.n_features > 2**16:
            raise ValueError(f"{self.n_features} features are more than {2**16}")

    @property
    def n_features(self) -> int:
        """Length of the feature vector: each stage halves the size twice."""
        edge = math.ceil(self.size / 4 ** len(self.channels))
        return self.channels[-1] * edge**2


class Ke2018(nn.Module):
    """Stages of convolution, normalisation, ReLU and max-pool, then a linear layer.

    Attributes:
        config: Its size and stages.
        features: The stages, all that comes before flattening.
        classifier: The linear layer.
    """

    def __init__(self, config: Ke2018Config) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(*_stages(config))
        _start_from_peaks(self.features)
        self.classifier = nn.Linear(config.n_features, len(Label))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the classes: z of equation 3.

        Args:
            images: float32 (n, 1, size, size), as preprocessing.prepare makes them.

        Returns:
            float32 (n, 3), in the order of Label.
        """
        maps = self.features(images)  # (n, 32, 3, 3) for 720 x 720
        features = maps.flatten(start_dim=1)  # (n, n_features)
        return self.classifier(features)  # (n, 3)


def _stages(config: Ke2018Config) -> Iterator[nn.Module]:
    """The layers of all stages: (n, 1, size, size) to (n, channels[-1], edge, edge)."""
    k_in = 1
    for stage, k_out in enumerate(config.channels):
        kernel = config.first_kernel if stage == 0 else 3
        pool = config.first_pool if stage == 0 else 2
        yield nn.Conv2d(k_in, k_out, kernel, stride=2, padding=kernel // 2)
        yield nn.BatchNorm2d(k_out)
        yield nn.ReLU()
        # Odd sizes are rounded up, as section 2.1.1 has it; a pool of 3 is padded
        # instead and so halves the size too.
        yield nn.MaxPool2d(pool, 2, padding=(pool - 1) // 2, ceil_mode=pool == 2)
        k_in = k_out


def _start_from_peaks(features: nn.Sequential) -> None:
    """Set initial weights that pass on bright pixels from the first training step.

    Spots cover a few of half a million pixels: with kernels of random signs they cancel
    in the second stage, and training stays on its first plateau for an hour. Here each
    kernel of the first stage starts near a single pixel, its threshold at 2.5 standard
    deviations; the kernels after it start without negative weights. The features start
    small, since the linear layer of 288 of them would overshoot at the paper's learning
    rate of 0.1. The numbers were chosen by hand; the paper gives no initial weights.
    """
    convolutions = [layer for layer in features if isinstance(layer, nn.Conv2d)]
    first, *others = convolutions
    centre = first.kernel_size[0] // 2
    with torch.no_grad():
        first.weight.mul_(0.3)
        for k in range(first.out_channels):
            # The four pixels that a stride of two steps over, in turn.
            row, column = divmod(k % 4, 2)
            first.weight[k, 0, centre + row, centre + column] += 1.0
        features[1].bias.fill_(-2.5)
        for convolution in others:
            convolution.weight.abs_()
        last_normalisation = features[-3]
        last_normalisation.weight.fill_(0.1)


class _MaxOfFour(nn.Module):
    """A max-pool of 2, stride 2, sizes rounded up: the same, eight times faster.

    torch's own takes a third of the time of the fused network on a CPU for the four
    maps of the first stage.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (n, k, rows, columns) to (n, k, rows / 2, columns / 2)."""
        if maps.shape[2] % 2 or maps.shape[3] % 2:
            return nn.functional.max_pool2d(maps, 2, ceil_mode=True)
        rows = torch.maximum(maps[:, :, ::2], maps[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


def fuse(network: Ke2018) -> nn.Module:
    """A copy for inference: normalisation folded into convolutions, six times faster.

    Returns:
        A network with the same ``features`` and ``classifier``, input and output, equal
        within rounding.
    """
    network = copy.deepcopy(network).eval()
    layers = list(network.features)
    network.features = nn.Sequential(
        *(
            _for_inference(layer, layers[i + 1 : i + 2])
            for i, layer in enumerate(layers)
            if not isinstance(layer, nn.BatchNorm2d)
        )
    )
    return network.to(memory_format=torch.channels_last)


def _for_inference(layer: nn.Module, following: list[nn.Module]) -> nn.Module:
    """The layer with the normalisation after it, or the same in less time."""
    if isinstance(layer, nn.Conv2d):
        return fuse_conv_bn_eval(layer, *following)
    if isinstance(layer, nn.MaxPool2d) and layer.kernel_size == 2:
        return _MaxOfFour()
    return layer
