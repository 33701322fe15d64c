"""The pixels to which a network of images is most sensitive (Fig. 10)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from dials_cnn_screen.ke2018.network import Ke2018
from dials_cnn_screen.labels.label import Label

# Standard deviations from the mean beyond which pixels count (section 3.4, Fig. 10).
MIN_DEVIATION = 3.0


def loss_gradient(
    network: Ke2018, image: NDArray[np.float32], label: Label
) -> NDArray[np.float64]:
    """Gradient of the loss (equation 4) of one image with respect to its pixels.

    Args:
        network: Stays as it is.
        image: (size, size), the network's input.
        label: Of which the loss is taken.

    Returns:
        (size, size), over 0 where a brighter pixel makes the network less sure of the
        label.
    """
    # In double precision: in single the loss of a sure prediction is 0 by rounding.
    network = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    # (1, 1, size, size)
    batch = torch.from_numpy(image).double()[None, None].requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(batch), torch.tensor([label]))
    (gradient,) = torch.autograd.grad(loss, batch)
    return gradient[0, 0].numpy()


def most_sensitive(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most sensitive pixels: those over MIN_DEVIATION from the mean gradient.

    Args:
        gradient: (size, size), from loss_gradient.

    Returns:
        (size, size), for these pixels how many standard deviations they are from the
        mean, with its sign; 0 for the others, and for all if they are equal.
    """
    spread = gradient.std()
    if spread == 0:
        return np.zeros_like(gradient)
    deviations = (gradient - gradient.mean()) / spread
    return np.where(np.abs(deviations) > MIN_DEVIATION, deviations, 0.0)
