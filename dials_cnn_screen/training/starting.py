"""What training starts from: fresh weights, or a model that is fitted to new labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from dials_cnn_screen.architecture import Architecture, Preparation, Schedule
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.registry import find_architecture

if TYPE_CHECKING:
    from torch import nn

DEFAULT = "default"


@dataclass(frozen=True)
class Start:
    """A network to train, with what its model file will need.

    Attributes:
        network: Trained in place.
        architecture: Name in the registry.
        preparation: Of the network's input.
        model: The model that the network is of; None with fresh weights.
    """

    network: nn.Module
    architecture: str
    preparation: Preparation
    model: Model | None = None

    @property
    def entry(self) -> Architecture:
        """The registry's entry of the architecture."""
        return find_architecture(self.architecture)


def begin_anew(architecture: str, contrast: str | None) -> Start:
    """Fresh weights.

    Args:
        architecture: Name in the registry.
        contrast: For networks whose preparation has one; None: the usual one.

    Raises:
        ValueError: There is no such architecture, or no contrast to choose.
    """
    entry = find_architecture(architecture)
    values = {} if contrast is None else {"contrast": contrast}
    return Start(entry.network(), architecture, entry.preparation(**values))


def begin_from(
    model_name: str, architecture: str | None, contrast: str | None
) -> Start:
    """The network of a model file, of which the architecture may freeze a part.

    Args:
        model_name: A file, or a model that comes with the package.
        architecture: What the model has to be; None: any.
        contrast: What its preparation has to have; None: any.

    Raises:
        ValueError: The model is of another architecture or contrast.
    """
    model = load_model(model_name)
    found = {"architecture": model.architecture, **model.preparation.as_dict()}
    for name, value in (("architecture", architecture), ("contrast", contrast)):
        if value not in (None, found.get(name)):
            raise ValueError(
                f"{name}={value}, but start_from={model_name} has {name}="
                f"{found.get(name)}; leave out one of the two, or set start_from=None "
                "to train from fresh weights"
            )
    model.entry.freeze(model.network)
    return Start(model.network, model.architecture, model.preparation, model)


def choose_schedule(
    start: Start, name: str, changes: Mapping[str, float | None]
) -> Schedule:
    """The schedule for what training starts from.

    Args:
        start: What training starts from.
        name: short or paper.
        changes: Fields to replace; None: as the schedule has it.

    Raises:
        ValueError: The schedule of the architecture has no such field.
    """
    schedule = start.entry.schedule(name, from_model=start.model is not None)
    changes = {field: x for field, x in changes.items() if x is not None}
    known = {field.name for field in fields(schedule)}  # type: ignore[arg-type]
    if unknown := set(changes) - known:
        raise ValueError(
            f"training.{min(unknown)} does not apply to architecture="
            f"{start.architecture}; leave it out"
        )
    return replace(schedule, **changes)  # type: ignore[type-var]
