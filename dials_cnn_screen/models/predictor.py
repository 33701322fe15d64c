"""A model made ready on a device: frame to prediction."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from dials_cnn_screen.architecture import NetworkOutput, Pipeline
from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.labels.probabilities import softmax
from dials_cnn_screen.models.prediction import Prediction, make_prediction
from dials_cnn_screen.spots.out_of_distribution import OutOfDistribution
from dials_cnn_screen.util.errors import one_line


class Predictor:
    """Frame to network input to prediction, in two steps that can be timed.

    Attributes:
        device: cpu or cuda, where the network is.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        temperature: float,
        out_of_distribution: OutOfDistribution | None,
        device: str,
    ) -> None:
        """As the model has them; compiles what has to be, so that no frame waits."""
        self.device = device
        self._pipeline = pipeline
        self._temperature = temperature
        self._out_of_distribution = out_of_distribution
        # Frames are shared out among processes; threads within would only compete.
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)
        nothing = np.zeros((2, 2), dtype=np.float32)
        pipeline.run(pipeline.prepare(Frame(nothing, nothing == 0, (1.0, 1.0))))

    def prepare(self, frame: Frame) -> Any:
        """The network's input."""
        return self._pipeline.prepare(frame)

    def classify(self, prepared: Any) -> Prediction:
        """The prediction for a prepared frame.

        Raises:
            ValueError: What the network gives is not finite.
        """
        output = self._pipeline.run(prepared)
        return prediction_of(output, self._temperature, self._out_of_distribution)

    def predict(self, frame: Frame) -> Prediction:
        """The prediction for a frame.

        Raises:
            ValueError: There is nothing on the frame to classify it by, or what the
                network gives is not finite.
        """
        check_frame(frame)
        return self.classify(self.prepare(frame))


def compare_pipelines(pipeline: Pipeline, reference: Pipeline) -> str | None:
    """What is different in the outputs of two pipelines for a test frame; None if not.

    The frame has noise of few photons, a gap and some spots. Probabilities may differ
    by 1e-3, the rounding of the kernels for GPUs.
    """
    rng = np.random.default_rng(0)
    data = rng.poisson(5, (300, 340)).astype(np.float32)
    data[20:300:40, 25:340:45] += 60
    mask = np.ones(data.shape, dtype=bool)
    mask[140:150] = False
    frame = Frame(data, mask, (150.0, 170.0))
    try:
        first, second = (
            softmax(p.run(p.prepare(frame)).logits) for p in (pipeline, reference)
        )
    except Exception as error:  # whatever a driver or a compiler may raise
        return one_line(error)
    if not np.abs(first - second).max() <= 1e-3:
        return f"probabilities {first.round(4)} and {second.round(4)}"
    return None


def prediction_of(
    output: NetworkOutput,
    temperature: float,
    out_of_distribution: OutOfDistribution | None,
) -> Prediction:
    """The prediction from what a network gives; the others as a model has them.

    Raises:
        ValueError: What the network gives is not finite.
    """
    if not np.isfinite(output.logits).all():
        raise ValueError("the network's output is not finite")
    ood_score = None
    if out_of_distribution is not None:
        ood_score = float(out_of_distribution.score(output.features[None])[0])
    return make_prediction(
        softmax(output.logits, temperature),
        output.spots,
        ood_score,
        output.features,
        output.candidates,
        output.rings,
    )
