"""The pixels to which a network of images is most sensitive (Fig. 10)."""

from __future__ import annotations

import copy

import numpy as np
import torch

from dials_cnn_screen.ke2018.network import Ke2018
from dials_cnn_screen.labels.label import Label

# Standard deviations from the mean.
FAR = 3.0


def loss_gradient(network: Ke2018, prepared: np.ndarray, label: Label) -> np.ndarray:
    """Gradient of the loss (equation 4) of one image by its pixels, for a label.

    prepared: the network's input, float32 (size, size). Returns float64 (size, size):
    above 0 where a brighter pixel makes the network less sure of the label.
    """
    # In double precision, or nothing would be left of the loss of a sure answer.
    network = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    image = torch.from_numpy(prepared).double()[None, None].requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(image), torch.tensor([label]))
    loss.backward()
    return image.grad[0, 0].numpy()


def most_sensitive(gradient: np.ndarray) -> np.ndarray:
    """Deviations from the mean of the pixels 3 or more of them away; else 0.

    float64, the shape of gradient; all 0 where it is the same everywhere.
    """
    spread = gradient.std()
    if spread == 0:
        return np.zeros_like(gradient)
    deviations = (gradient - gradient.mean()) / spread
    return np.where(np.abs(deviations) > FAR, deviations, 0.0)
