"""Model files: weights and all that is needed to use them rightly, without code.

A model file is a safetensors file. Its tensors are the network's weights, the scores of
the calibration hits and what frames are familiar; its metadata is JSON, so that nothing
in it is run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen import __version__
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.registry import Network, build_network, find_architecture
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.network import SpotNetwork
from dials_cnn_screen.spots.out_of_distribution import Familiarity
from dials_cnn_screen.util.files import replacing

FORMAT = "dials_cnn_screen.model"
FORMAT_VERSION = "1"
_MAX_BYTES = 256 * 2**20
_HIT_SCORES = "calibration.hit_scores"
_FAMILIARITY = "familiarity."
_MODELS = Path(__file__).parent


@dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities that can be believed.

    temperature: divides the class scores before softmax. hit_scores: sorted
    P(Hit) + P(Maybe) of held-out images that are Hit or Maybe, float64 (n,). source:
    what images those are.
    """

    temperature: float = 1.0
    hit_scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    source: str = "none"


@dataclass(frozen=True)
class Model:
    """A network with all that belongs to it.

    architecture: name in network.ARCHITECTURES. trained_on: one line. provenance: how
    it was made, JSON values. sha256: of the file it came from, empty for a new one.
    familiarity: what frames are like training; None where that is not known.
    """

    name: str
    network: Network
    architecture: str
    preprocessing: Preprocessing | CandidateSearch
    calibration: Calibration
    trained_on: str
    provenance: dict
    sha256: str = ""
    familiarity: Familiarity | None = None


def save_model(path: str | Path, model: Model) -> None:
    """Write a model file, beside its name first and then in its place."""
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    tensors[_HIT_SCORES] = torch.from_numpy(
        np.sort(model.calibration.hit_scores).astype(np.float64)
    )
    if model.familiarity is not None:
        for name, values in vars(model.familiarity).items():
            tensors[_FAMILIARITY + name] = torch.tensor(values, dtype=torch.float64)
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"dials_cnn_screen {__version__}",
        "name": model.name,
        "architecture": model.architecture,
        "configuration": json.dumps(asdict(model.network.config)),
        "preprocessing": json.dumps(model.preprocessing.as_dict()),
        "labels": json.dumps([label.name for label in Label]),
        "temperature": json.dumps(model.calibration.temperature),
        "calibrated_on": model.calibration.source,
        "trained_on": model.trained_on,
        "provenance": json.dumps(model.provenance),
    }
    with replacing(path) as unfinished:
        save_file(tensors, unfinished, metadata)


def load_model(model: str | Path = "default") -> Model:
    """Read a model file, or one that comes with the package by its name.

    Those are default and ke2018.

    Raises ValueError, with the file's name and what to do, where it can't be read, is
    damaged, of another version, or of an architecture that is not known here.
    """
    path = packaged_models().get(str(model), Path(model))
    if not path.is_file():
        raise ValueError(
            f"model '{path}' is not a file; give a file of dials.cnn_train, or one of "
            f"{', '.join(packaged_models())}"
        )
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"model '{path}' is over {_MAX_BYTES >> 20} MiB: not a model")
    try:
        tensors, metadata = _read(path)
        _check_header(metadata)
        configuration = json.loads(metadata["configuration"])
        kind = find_architecture(metadata["architecture"])
        preprocessing = kind.preprocessing(**json.loads(metadata["preprocessing"]))
        _check_size(configuration, preprocessing)
        calibration = Calibration(
            _positive(json.loads(metadata["temperature"])),
            _hit_scores(tensors.pop(_HIT_SCORES).numpy()),
            metadata["calibrated_on"],
        )
        network = build_network(metadata["architecture"], **configuration)
        familiarity = _familiarity(tensors, network)
        network.load_state_dict(tensors)
        network.eval()
        return Model(
            name=metadata["name"],
            network=network,
            architecture=metadata["architecture"],
            preprocessing=preprocessing,
            calibration=calibration,
            trained_on=metadata["trained_on"],
            provenance=json.loads(metadata["provenance"]),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            familiarity=familiarity,
        )
    except ValueError as error:
        raise ValueError(f"model '{path}': {error}") from error
    except KeyError as error:
        raise ValueError(f"model '{path}' is damaged: it has no {error}") from error
    except OSError as error:
        raise ValueError(f"model '{path}' can't be read: {error.strerror}") from error
    except (TypeError, RuntimeError) as error:
        # torch lists what is wrong with weights one a line, below a heading.
        last_line = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"model '{path}' is damaged: {last_line}") from error


def packaged_models() -> dict[str, Path]:
    """The model files that come with the package, by name."""
    return {path.stem: path for path in sorted(_MODELS.glob("*.safetensors"))}


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"not a model file, or a damaged one ({error}); make one with "
            "dials.cnn_train"
        ) from error


def _check_header(metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ValueError("a safetensors file, but not one of dials.cnn_train")
    if metadata["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"of version {metadata['format_version']}, and this program reads "
            f"version {FORMAT_VERSION}; train it again or install the other version"
        )
    labels = json.loads(metadata["labels"])
    if labels != [label.name for label in Label]:
        raise ValueError(f"its classes are {labels}, not Hit, Maybe, Miss")


def _check_size(
    configuration: dict, preprocessing: Preprocessing | CandidateSearch
) -> None:
    """Raise ValueError where a network takes images of another size than it gets."""
    if isinstance(preprocessing, CandidateSearch):
        return
    if preprocessing.size != configuration["size"]:
        raise ValueError(
            f"its network takes {configuration['size']} bins, its preprocessing "
            f"gives {preprocessing.size}"
        )


def _familiarity(
    tensors: dict[str, torch.Tensor], network: Network
) -> Familiarity | None:
    """The familiarity among the tensors, taken out of them; None if there is none.

    Raises ValueError where it is not of the network's features.
    """
    if _FAMILIARITY + "mean" not in tensors:
        return None
    mean, whitening, limit = (
        tensors.pop(_FAMILIARITY + name).numpy()
        for name in ("mean", "whitening", "limit")
    )
    features = network.head[0].in_features if isinstance(network, SpotNetwork) else 0
    if mean.size != features:
        raise ValueError(
            f"its familiarity is of {mean.size} features, its network has {features}"
        )
    return Familiarity(mean, whitening, limit.item())


def _positive(value: object) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < 100:
        raise ValueError(f"its temperature is {value}, not from 0 to 100")
    return float(value)


def _hit_scores(scores: np.ndarray) -> np.ndarray:
    if scores.ndim != 1 or not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError("its calibration scores are not a list of probabilities")
    return np.sort(scores)
