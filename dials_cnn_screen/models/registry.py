"""The architectures there are, by name: a network, its configuration, its input."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dials_cnn_screen.ke2018.network import Ke2018, Ke2018Config
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.network import SpotNetwork, SpotNetworkConfig

Network = Ke2018 | SpotNetwork


@dataclass(frozen=True)
class Architecture:
    """A kind of network, its usual configuration, and the preparation of its input."""

    network: type[Network]
    config: Ke2018Config | SpotNetworkConfig
    preprocessing: type[Preprocessing] | type[CandidateSearch]


ARCHITECTURES = {
    "ke2018": Architecture(Ke2018, Ke2018Config(), Preprocessing),
    "fv5080": Architecture(
        Ke2018, Ke2018Config(first_kernel=7, first_pool=3), Preprocessing
    ),
    "spots": Architecture(SpotNetwork, SpotNetworkConfig(), CandidateSearch),
}


def find_architecture(name: str) -> Architecture:
    """The architecture of a name; ValueError where there is none."""
    if name not in ARCHITECTURES:
        raise ValueError(
            f"architecture '{name}' is not one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def build_network(architecture: str, **changes: object) -> Network:
    """A network with fresh weights; changes replace fields of its configuration.

    Raises ValueError for an architecture that is not known.
    """
    kind = find_architecture(architecture)
    return kind.network(type(kind.config)(**{**asdict(kind.config), **changes}))
