"""What training begins with: fresh weights, or a model that is fitted to new labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.models.model_file import Model, load_model
from dials_cnn_screen.models.registry import ARCHITECTURES, Network, build_network
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.network import SpotNetwork
from dials_cnn_screen.spots.training_set import SpotSchedule
from dials_cnn_screen.training.loop import Schedule

DEFAULT = "default"
# By whether the network is one of spots, and whether it starts from a model. A model
# has learned what a spot is: less time and smaller steps are enough.
SHORT = {
    (False, False): Schedule(epochs=30, batches=50),
    (False, True): Schedule(epochs=15, batches=25, learning_rate=0.01),
    (True, False): SpotSchedule(epochs=40, batches=50),
    (True, True): SpotSchedule(
        epochs=15, batches=10, batch_size=32, learning_rate=1e-3
    ),
}
# Section 3.4.
PAPER = {"epochs": 120, "batches": 100, "batch_size": 64}


@dataclass(frozen=True)
class Start:
    """A network to train, with what its model file will need.

    model: that it is from; None with fresh weights.
    """

    network: Network
    architecture: str
    preprocessing: Preprocessing | CandidateSearch
    model: Model | None = None


def begin_anew(architecture: str, contrast: str | None) -> Start:
    """Fresh weights; contrast: for networks that see images, None: lcn.

    Raises ValueError for a contrast where there is none to choose.
    """
    kind = ARCHITECTURES[architecture]
    preprocessing = kind.preprocessing()
    if contrast is not None:
        if not isinstance(preprocessing, Preprocessing):
            raise ValueError(
                f"contrast={contrast} is for networks that see whole images, and "
                f"architecture={architecture} looks at spots in units of the noise; "
                "leave contrast out"
            )
        preprocessing = replace(preprocessing, contrast=contrast)
    return Start(build_network(architecture), architecture, preprocessing)


def begin_from(
    model_name: str, architecture: str | None, contrast: str | None
) -> Start:
    """The network of a model file, or of one that comes with the package.

    Of a network that looks at spots only the head is trained, the layers that tell the
    class from features of the frame: what it takes for a spot, and what it knows to be
    unlike its training, stay as they are, and stay true. Raises ValueError where the
    model is of another architecture or contrast than asked for (None: any).
    """
    model = load_model(model_name)
    asked = {"architecture": architecture, "contrast": contrast}
    there = {
        "architecture": model.architecture,
        "contrast": getattr(model.preprocessing, "contrast", None),
    }
    for name, value in asked.items():
        if value not in (None, there[name]):
            raise ValueError(
                f"{name}={value}, but start_from={model_name} is of {name} "
                f"{there[name]}; leave out one of the two, or set start_from=None to "
                "begin with fresh weights"
            )
    if isinstance(model.network, SpotNetwork):
        model.network.requires_grad_(False)
        model.network.head.requires_grad_(True)
    return Start(model.network, model.architecture, model.preprocessing, model)


def choose_schedule(
    start: Start, name: str, changes: dict[str, float | int | None]
) -> Schedule | SpotSchedule:
    """The schedule, short or paper, for what training begins with.

    changes: fields to replace; None: as the schedule has it. Raises ValueError for a
    field that the network's schedule does not have.
    """
    is_spots = isinstance(start.network, SpotNetwork)
    schedule = SHORT[is_spots, start.model is not None]
    if name == "paper":
        schedule = replace(schedule, **PAPER)
    changes = {field: x for field, x in changes.items() if x is not None}
    if unknown := set(changes) - set(vars(schedule)):
        raise ValueError(
            f"training.{unknown.pop()} is for networks that see whole images; that of "
            f"architecture={start.architecture} falls to 0"
        )
    return replace(schedule, **changes)
