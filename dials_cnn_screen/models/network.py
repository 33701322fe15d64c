"""The network of a model: of torch, or as its file has it until torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import Architecture, StoredNetwork

if TYPE_CHECKING:
    from torch import nn


def load_network(
    entry: Architecture, configuration: dict[str, Any], weights: dict[str, NDArray]
) -> Any:
    """A network of these weights: stored, or of torch where it takes that.

    Args:
        entry: Of the registry.
        configuration: By field.
        weights: By name.

    Raises:
        ValueError, TypeError, RuntimeError: They are no network's of this architecture.
    """
    stored = entry.stored_network(configuration, weights)
    return _make(entry, configuration, weights) if stored is None else stored


class LazyNetwork:
    """An attribute that is a network of torch, made when it is first asked for.

    It can be set to a StoredNetwork; stored_or_made gives what is there.
    """

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        """The network; model has the registry's entry."""
        if model is None:
            raise AttributeError("network")
        network = stored_or_made(model)
        if isinstance(network, StoredNetwork):
            network = _make(model.entry, asdict(network.config), network.weights)
            vars(model)["network"] = network
        return network

    def __set__(self, model: Any, network: nn.Module | StoredNetwork) -> None:
        vars(model)["network"] = network


def stored_or_made(model: Any) -> Any:
    """The network of a model as it is: a StoredNetwork, or one of torch."""
    return vars(model)["network"]


def _make(
    entry: Architecture, configuration: dict[str, Any], weights: Mapping[str, NDArray]
) -> nn.Module:
    import torch

    network = entry.network(**configuration)
    network.load_state_dict(
        {name: torch.from_numpy(np.array(w)) for name, w in weights.items()}
    )
    return network.eval()
