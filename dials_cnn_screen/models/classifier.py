"""A model made ready on a device: frame to network input to class scores."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch

from dials_cnn_screen.ke2018 import preprocessing_cpu as cpu
from dials_cnn_screen.ke2018.network import Ke2018, fuse
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.spots import candidates_cpu as cpu_candidates
from dials_cnn_screen.spots.candidates import Candidates
from dials_cnn_screen.spots.network import CandidateBatch, batch_of_one


class Answer(NamedTuple):
    """What a network says of one frame.

    scores: class scores z, float32 (3,), in the order of Label. features: float32 (f,),
    what its last layer tells the classes by. spots: int64 (n, 2),
    the candidates that are likelier a spot than not, (slow, fast) pixel indices on the
    frame, the strongest first; None from a network that does not look for spots.
    strangeness: over 1 where the frame is unlike training; None where not known.
    """

    scores: np.ndarray
    features: np.ndarray
    spots: np.ndarray | None = None
    strangeness: float | None = None


class Classifier(Protocol):
    """What every kind of network does with one frame; temperature: its calibration."""

    temperature: float

    def prepare(
        self, data: np.ndarray, mask: np.ndarray, beam_centre: tuple[float, float]
    ) -> np.ndarray | Candidates:
        """Network input from a frame (slow, fast), its mask and beam centre, pixels."""

    def answer(self, prepared: np.ndarray | Candidates) -> Answer:
        """What the network says of a prepared frame."""


def make_classifier(model: Model, device: str) -> Classifier:
    """The classifier of a model's kind, on cpu or cuda, compiled and ready."""
    kind = ImageClassifier if isinstance(model.network, Ke2018) else SpotClassifier
    # Stills are shared out among processes; threads within would only compete.
    torch.set_num_threads(1)
    classifier = kind(model, device)
    # The first image takes longer, and must not be one whose time is reported.
    nothing = np.zeros((2, 2), dtype=np.float32)
    classifier.answer(classifier.prepare(nothing, nothing == 0, (1.0, 1.0)))
    return classifier


class ImageClassifier:
    """Networks that see the middle of the frame as one image."""

    def __init__(self, model: Model, device: str) -> None:
        self.temperature = model.calibration.temperature
        self._preprocessing = model.preprocessing
        self._device = device
        self._network = fuse(model.network).to(device)

    def prepare(
        self, data: np.ndarray, mask: np.ndarray, beam_centre: tuple[float, float]
    ) -> np.ndarray:
        """The prepared image, float32 (size, size)."""
        return cpu.prepare(data, mask, beam_centre, self._preprocessing)

    def answer(self, prepared: np.ndarray) -> Answer:
        """Class scores of a prepared image."""
        with torch.inference_mode():
            batch = torch.from_numpy(prepared)[None, None].to(self._device)
            features = self._network.features(batch).flatten(start_dim=1)
            scores = self._network.classifier(features)
        return Answer(scores[0].cpu().numpy(), features[0].cpu().numpy())


class SpotClassifier:
    """The network that judges spot candidates."""

    def __init__(self, model: Model, device: str) -> None:
        self.temperature = model.calibration.temperature
        self._search = model.preprocessing
        self._familiarity = model.familiarity
        self._device = device
        self._network = model.network.eval().to(device)

    def prepare(
        self, data: np.ndarray, mask: np.ndarray, beam_centre: tuple[float, float]
    ) -> Candidates:
        """The candidates of the frame."""
        return cpu_candidates.find_candidates(data, mask, beam_centre, self._search)

    def answer(self, prepared: Candidates) -> Answer:
        """Class scores, spots and strangeness of the frame."""
        batch: CandidateBatch = batch_of_one(prepared).to(self._device)
        with torch.inference_mode():
            verdict = self._network(batch)
        # A logit of 0 is a chance of one half. Without candidates one slot is empty.
        is_spot = (verdict.spots[0] > 0).cpu().numpy()[: len(prepared.z)]
        places = np.stack([prepared.slow, prepared.fast], axis=1)
        features = verdict.features.cpu().numpy()
        strangeness = None
        if self._familiarity is not None:
            strangeness = float(self._familiarity.strangeness(features)[0])
        scores = verdict.scores[0].cpu().numpy()
        return Answer(scores, features[0], places[is_spot], strangeness)
