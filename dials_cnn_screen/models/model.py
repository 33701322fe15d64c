"""A network with all that belongs to it, and its predictions on plain arrays."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dials_cnn_screen.architecture import Architecture, Preparation, as_array
from dials_cnn_screen.images.frame import make_frame
from dials_cnn_screen.models.network import LazyNetwork, stored_or_made
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.models.predictor import Predictor, compare_pipelines
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.out_of_distribution import OutOfDistribution
from dials_cnn_screen.spots.simulated_hits import SimulatedHits

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dials.cnn_screen")


def _no_hits() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities that can be believed.

    Attributes:
        temperature: Divides the logits before softmax.
        hit_scores: float64 (n,), sorted P(Hit) + P(Maybe) of held-out images that are
            Hit or Maybe.
        source: What images those are.
        shares: Of Hit, Maybe and Miss among the images of training; None where not
            known, or where classes were drawn equally often.
        sure_scores: As hit_scores, of those that are Hit; None where not known.
        simulated: The same images with what an eye needs; None where they were not
            simulated, or the model looks for no spots.
    """

    temperature: float = 1.0
    hit_scores: NDArray[np.float64] = field(default_factory=_no_hits)
    source: str = "none"
    shares: tuple[float, ...] | None = None
    sure_scores: NDArray[np.float64] | None = None
    simulated: SimulatedHits | None = None

    def arrays(self) -> dict[str, NDArray]:
        """The scores, and what else a model file has as tensors, by name."""
        arrays = {"calibration.hit_scores": np.sort(self.hit_scores)}
        if self.sure_scores is not None:
            arrays["calibration.sure_scores"] = np.sort(self.sure_scores)
        if self.simulated is not None:
            arrays |= self.simulated.arrays()
        return arrays


@dataclass(frozen=True)
class Model:
    """A network with all that belongs to it; load_model reads one.

    Attributes:
        name: As people call it.
        network: The network; its config is a dataclass. A model of load_model makes it
            when it is first asked for, if nothing needs torch before.
        architecture: Name in the registry.
        preparation: Of the network's input.
        calibration: Of its logits.
        trained_on: One line.
        provenance: How it was made, JSON values.
        out_of_distribution: The distribution of frames like its training; None where
            that is not known.
    """

    name: str
    network: nn.Module
    architecture: str
    preparation: Preparation
    calibration: Calibration
    trained_on: str
    provenance: dict[str, Any]
    out_of_distribution: OutOfDistribution | None = None

    @property
    def entry(self) -> Architecture:
        """The registry's entry of its architecture."""
        return find_architecture(self.architecture)

    @property
    def max_spots(self) -> int | None:
        """How many spots of a frame it finds at most; None if it looks for none."""
        return self.entry.max_spots(self.preparation)

    @functools.cached_property
    def sha256(self) -> str:
        """What the model is known by: a digest of all that predictions depend on.

        Two models of the same weights, preparation and calibration have the same,
        whatever they are called and when they were made.
        """
        digest = hashlib.sha256()
        for name, values in sorted(self.arrays().items()):
            digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update(json.dumps(self.settings(), sort_keys=True).encode())
        return digest.hexdigest()

    def arrays(self) -> dict[str, NDArray]:
        """Weights, calibration and out-of-distribution model by name."""
        arrays = {
            name: as_array(weight)
            for name, weight in stored_or_made(self).state_dict().items()
        }
        arrays |= self.calibration.arrays()
        if self.out_of_distribution is not None:
            for name, values in vars(self.out_of_distribution).items():
                arrays[f"out_of_distribution.{name}"] = np.asarray(values, np.float64)
        return arrays

    def settings(self) -> dict[str, Any]:
        """What else predictions depend on, JSON values."""
        return {
            "architecture": self.architecture,
            "configuration": asdict(stored_or_made(self).config),
            "preprocessing": self.preparation.as_dict(),
            "temperature": self.calibration.temperature,
        }

    def predictor(self, device: str = "cpu") -> Predictor:
        """The model made ready on cpu or cuda.

        On a GPU a test frame is classified there and on the CPU first. Where they
        disagree, or the GPU fails, the CPU is used, with a line in the log.
        """
        network = stored_or_made(self) if device == "cpu" else self.network
        pipeline = self.entry.pipeline(network, self.preparation, device)
        if device != "cpu":
            on_cpu = self.entry.pipeline(network, self.preparation, "cpu")
            if (problem := compare_pipelines(pipeline, on_cpu)) is not None:
                logger.warning(
                    "The GPU does not classify a test frame as the CPU does (%s); the "
                    "CPU is used",
                    problem,
                )
                pipeline, device = on_cpu, "cpu"
        return Predictor(
            pipeline, self.calibration.temperature, self.out_of_distribution, device
        )

    def predict(
        self,
        data: ArrayLike,
        mask: ArrayLike | None = None,
        beam_centre: tuple[float, float] | None = None,
    ) -> Prediction:
        """Classify one image, a plain array; nothing of DIALS is needed.

        Args:
            data: (slow, fast) numbers, ADU or photons, as the detector gives them; of
                several panels assembled on one array.
            mask: bool (slow, fast), True = use; None uses every pixel. Gaps, dead and
                untrusted pixels have to be masked; overloaded ones in the middle of a
                spot are signal, and have to be used.
            beam_centre: (slow, fast), pixels from the outer corner of the first one;
                None is the middle.

        Returns:
            Probabilities, class, spots and out-of-distribution score.

        Raises:
            ValueError: The arrays do not go together, or there is nothing on the image
                to classify it by.
        """
        return self._predictor.predict(make_frame(data, mask, beam_centre))

    @functools.cached_property
    def _predictor(self) -> Predictor:
        return self.predictor()


# Not in the class: there it would be the default of the field.
Model.network = LazyNetwork()
