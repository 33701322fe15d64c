"""Model files: weights and all that is needed to use them rightly, without code.

A model file is a safetensors file. Its tensors are the network's weights, the scores of
the calibration hits, with what an eye needs of them, and the out-of-distribution model;
its metadata is JSON, so that nothing in it is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen import __version__
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.models.network import load_network
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.out_of_distribution import OutOfDistribution
from dials_cnn_screen.spots.simulated_hits import pop_simulated_hits
from dials_cnn_screen.util.files import replacing

FORMAT = "dials_cnn_screen.model"
FORMAT_VERSION = "1"
# Characters of a text in a model file, by hand.
_LONGEST = 1000
_MAX_BYTES = 256 * 2**20
_HIT_SCORES = "calibration.hit_scores"
# Files of the first versions do not have these.
_SURE_SCORES = "calibration.sure_scores"
_OUT_OF_DISTRIBUTION = "out_of_distribution."
# As files of the first versions have these tensors.
_OLD_NAMES = {
    "familiarity.mean": "out_of_distribution.location",
    "familiarity.whitening": "out_of_distribution.whitening",
    "familiarity.limit": "out_of_distribution.limit",
}
_MODELS = Path(__file__).parent


def save_model(path: str | Path, model: Model) -> None:
    """Write a model file, beside its name first and then in its place."""
    from safetensors.numpy import save_file

    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"dials_cnn_screen {__version__}",
        "name": model.name,
        "labels": json.dumps([label.name for label in Label]),
        "calibrated_on": model.calibration.source,
        "shares": json.dumps(model.calibration.shares),
        "trained_on": model.trained_on,
        "provenance": json.dumps(model.provenance),
    }
    for name, value in model.settings().items():
        metadata[name] = value if isinstance(value, str) else json.dumps(value)
    with replacing(path) as unfinished:
        save_file(model.arrays(), unfinished, metadata)


def load_model(model: str | Path = "default") -> Model:
    """Read a model file, or one that comes with the package by its name.

    Those are default and ke2018.

    Raises:
        ValueError: With the file's name and what to do: it can't be read, is damaged,
            of another version, or of an architecture that is not known here.
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
        arrays, metadata = _read(path)
        _check_header(metadata)
        return _make_model(arrays, metadata)
    except ValueError as error:
        raise ValueError(f"model '{path}': {error}") from error
    except KeyError as error:
        raise ValueError(f"model '{path}' is damaged: it has no {error}") from error
    except OSError as error:
        raise ValueError(f"model '{path}' can't be read: {error.strerror}") from error
    except (TypeError, AttributeError, RuntimeError) as error:
        # torch lists what is wrong with weights one a line, below a heading.
        last_line = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"model '{path}' is damaged: {last_line}") from error


def packaged_models() -> dict[str, Path]:
    """The model files that come with the package, by name."""
    return {path.stem: path for path in sorted(_MODELS.glob("*.safetensors"))}


def _make_model(arrays: dict[str, NDArray], metadata: dict[str, str]) -> Model:
    architecture = find_architecture(metadata["architecture"])
    preparation = architecture.preparation(**json.loads(metadata["preprocessing"]))
    calibration = Calibration(
        _positive(json.loads(metadata["temperature"])),
        _hit_scores(arrays.pop(_HIT_SCORES)),
        metadata["calibrated_on"],
        _shares(json.loads(metadata.get("shares", "null"))),
        _hit_scores(arrays.pop(_SURE_SCORES)) if _SURE_SCORES in arrays else None,
        pop_simulated_hits(arrays),
    )
    distribution = _pop_distribution(arrays)
    network = load_network(architecture, json.loads(metadata["configuration"]), arrays)
    architecture.check(network, preparation)
    n_features = architecture.n_features(network)
    return Model(
        name=metadata["name"],
        network=network,
        architecture=architecture.name,
        preparation=preparation,
        calibration=calibration,
        trained_on=metadata["trained_on"],
        provenance=json.loads(metadata["provenance"]),
        out_of_distribution=_out_of_distribution(distribution, n_features),
    )


def _read(path: Path) -> tuple[dict[str, NDArray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            arrays = {
                _OLD_NAMES.get(name, name): file.get_tensor(name)
                for name in list(file.keys())
            }
            return arrays, file.metadata() or {}
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
            f"of version {metadata['format_version'][:20]}, and this program reads "
            f"version {FORMAT_VERSION}; train it again or install the other version"
        )
    labels = json.loads(metadata["labels"])
    if labels != [label.name for label in Label]:
        raise ValueError(f"its classes are {str(labels)[:60]}, not Hit, Maybe, Miss")
    for name in ("name", "trained_on", "calibrated_on"):
        if (n := len(metadata[name])) > _LONGEST:  # they go into logs and scores
            raise ValueError(f"damaged: its {name} is a text of {n} characters")


def _pop_distribution(arrays: dict[str, NDArray]) -> list[NDArray]:
    """Those of the out-of-distribution model, taken out of the arrays; or none."""
    if f"{_OUT_OF_DISTRIBUTION}location" not in arrays:
        return []
    names = ("location", "whitening", "limit")
    return [arrays.pop(_OUT_OF_DISTRIBUTION + name) for name in names]


def _out_of_distribution(
    distribution: list[NDArray], n_features: int
) -> OutOfDistribution | None:
    """What the file has, if that is of the network's features; else ValueError."""
    if not distribution:
        return None
    location, whitening, limit = distribution
    if location.size != n_features:
        raise ValueError(
            f"its out-of-distribution model is of {location.size} features, its "
            f"network has {n_features}"
        )
    return OutOfDistribution(location, whitening, limit.item())


def _positive(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < 100:
        raise ValueError(f"its temperature is {str(value)[:20]}, not from 0 to 100")
    return float(value)


def _shares(shares: Any) -> tuple[float, ...] | None:
    if shares is None:
        return None
    if len(shares) != len(Label) or not all(0 < share < 1 for share in shares):
        raise ValueError(f"its shares of classes are {str(shares)[:60]}")
    return tuple(shares)


def _hit_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if scores.ndim != 1 or not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError("its calibration scores are not a list of probabilities")
    return np.sort(scores)
