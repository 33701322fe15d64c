"""The registry's entry of the default model's architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import (
    PAPER_SCHEDULE,
    Explanation,
    NetworkOutput,
    Pipeline,
    StoredNetwork,
    score_candidates,
)
from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import (
    PATCH,
    Candidates,
    CandidateSearch,
    strongest,
)
from dials_cnn_screen.spots.configuration import SpotNetworkConfig, check_weights
from dials_cnn_screen.spots.rings import find_rings
from dials_cnn_screen.util.devices import can_compile_kernels, use_card

Floats = NDArray[np.float32]

# What takes time to import, torch and numba, is imported where it is used.
if TYPE_CHECKING:
    from dials_cnn_screen.spots.network import SpotNetwork
    from dials_cnn_screen.spots.pipeline_cuda import SpotBatches
    from dials_cnn_screen.spots.training_set import CandidateSet, SpotSchedule

# Kernels compare candidates with each other at once, so many at most.
MOST_ON_GPU = 256


class SpotArchitecture:
    """Candidates for spots at full resolution, and a network that weighs them."""

    name = "spots"

    def preparation(self, **values: Any) -> CandidateSearch:
        """How candidates are searched for."""
        if "contrast" in values:
            raise ValueError(
                f"contrast={values['contrast']} is for networks that see whole images, "
                f"and architecture={self.name} looks at spots in units of the noise; "
                "leave contrast out"
            )
        return CandidateSearch(**values)

    def network(self, **configuration: Any) -> SpotNetwork:
        """A SpotNetwork with fresh weights."""
        from dials_cnn_screen.spots.network import SpotNetwork

        return SpotNetwork(SpotNetworkConfig(**configuration))

    def stored_network(
        self, configuration: dict[str, Any], weights: dict[str, NDArray]
    ) -> StoredNetwork:
        """The network that compiled_network makes ready without torch."""
        config = SpotNetworkConfig(**configuration)
        check_weights(config, weights)
        arrays = {name: w.astype(np.float32) for name, w in weights.items()}
        return StoredNetwork(config, arrays)

    def check(self, network: SpotNetwork, preparation: CandidateSearch) -> None:
        """Any number of candidates fits the network."""

    def n_features(self, network: SpotNetwork | StoredNetwork) -> int:
        """What the head takes."""
        return network.config.n_features

    def max_spots(self, preparation: CandidateSearch) -> int:
        """Each candidate may be a spot."""
        return preparation.most

    def pipeline(
        self, network: Any, preparation: CandidateSearch, device: str
    ) -> Pipeline:
        """On cuda all on the GPU where there are kernels for it, else the network.

        network: A SpotNetwork; for the CPU also a StoredNetwork.
        """
        if device == "cuda":
            device = use_card()
        if device == "cpu":
            return SpotPipeline(preparation, compiled_network(network))
        if not self.has_kernels(preparation):
            return SpotPipeline(preparation, network_on_device(network, device))
        from dials_cnn_screen.single_frames import SingleFrames

        return SingleFrames(
            lambda layout: self.batches(network, preparation, layout, 1, device),
            SpotPipeline(preparation, compiled_network(network)),
            device,
        )

    def has_kernels(self, preparation: CandidateSearch) -> bool:
        """Whether there are kernels for a GPU, and a compiler for them."""
        return preparation.most <= MOST_ON_GPU and can_compile_kernels()

    def batches(
        self,
        network: SpotNetwork,
        preparation: CandidateSearch,
        layout: Layout,
        batch: int,
        device: str,
    ) -> SpotBatches:
        """Preparation and network on a GPU, for batches of frames of one layout."""
        from dials_cnn_screen.spots.pipeline_cuda import SpotBatches

        return SpotBatches(network, preparation, layout, batch, device)

    def schedule(self, name: str, from_model: bool) -> SpotSchedule:
        """Short, or as long as the paper's."""
        from dials_cnn_screen.spots.training_set import SHORT, SHORT_FROM_MODEL

        schedule = SHORT_FROM_MODEL if from_model else SHORT
        return replace(schedule, **PAPER_SCHEDULE) if name == "paper" else schedule

    def freeze(self, network: SpotNetwork) -> None:
        """Train count and head alone, the layers that tell the class from the features.

        What the network takes for a spot, and what is known to be out of its training's
        distribution, stay as they are, and stay true.
        """
        network.requires_grad_(False)
        network.count.requires_grad_(True)
        network.head.requires_grad_(True)

    def training_bytes(self, preparation: CandidateSearch) -> int:
        """The patches of a frame, float16."""
        return preparation.most * 2 * PATCH * PATCH * 2

    def on_disk(self) -> bool:
        """Candidates stay in memory."""
        return False

    def prepare_for_training(
        self, frame: Frame, preparation: CandidateSearch
    ) -> Candidates:
        """The candidates of the frame."""
        from dials_cnn_screen.spots.candidates_cpu import find_candidates

        return find_candidates(frame.data, frame.mask, frame.beam_centre, preparation)

    def training_set(
        self, n: int, preparation: CandidateSearch, folder: Path
    ) -> CandidateSet:
        """In memory; nothing is written to folder."""
        from dials_cnn_screen.spots.training_set import CandidateSet

        return CandidateSet.empty(n, preparation.most)

    def explain(
        self,
        network: SpotNetwork,
        preparation: CandidateSearch,
        frame: Frame,
        temperature: float,
        predicted: Label,
        labelled: Label | None,
    ) -> Explanation:
        """What each candidate adds to P(Hit) + P(Maybe); whatever the labels are."""
        from dials_cnn_screen.spots.explanation import explain_candidates

        candidates = self.prepare_for_training(frame, preparation)
        return explain_candidates(network, candidates, temperature)


class SpotPipeline:
    """Frame to candidates to classes and spots."""

    def __init__(
        self,
        search: CandidateSearch,
        classify: Callable[[Candidates], tuple[Floats, Floats, Floats]],
    ) -> None:
        """classify: gives logits, logits of the candidates and features of a frame."""
        from dials_cnn_screen.spots.candidates_cpu import find_candidates
        from dials_cnn_screen.spots.network_cpu import ring_radii

        self._ring_radii = ring_radii
        self._find_candidates = find_candidates
        self._search = search
        self._classify = classify

    def prepare(self, frame: Frame) -> Candidates:
        """The candidates of the frame."""
        return self._find_candidates(
            frame.data, frame.mask, frame.beam_centre, self._search
        )

    def run(self, prepared: Candidates) -> NetworkOutput:
        """Logits and features of the frame, and which candidates are spots."""
        logits, spot_logits, features = self._classify(prepared)
        # A logit of 0 is a chance of one half. Without candidates one slot is empty.
        spot_logits = spot_logits[: len(prepared.z)]
        places = np.stack([prepared.slow, prepared.fast], axis=1)
        strength = strongest(prepared.z, prepared.summed)
        candidates = score_candidates(strength, spot_logits, places)
        radius = self._ring_radii(prepared.slow, prepared.fast, *prepared.beam_centre)
        rings = [places[on_ring] for on_ring in find_rings(radius)]
        spots = places[spot_logits > 0]
        return NetworkOutput(logits, features, spots, candidates, rings)


def compiled_network(
    network: SpotNetwork | StoredNetwork,
) -> Callable[[Candidates], tuple[Floats, Floats, Floats]]:
    """The network on one core of the CPU, four times as fast as torch."""
    from dials_cnn_screen.spots.network_cpu import classify, spot_weights

    weights = spot_weights(network.state_dict())
    return lambda candidates: classify(candidates, weights)


def network_on_device(
    network: SpotNetwork, device: str
) -> Callable[[Candidates], tuple[Floats, Floats, Floats]]:
    """The network by torch, on any device."""
    import torch

    from dials_cnn_screen.spots.network import batch_of_one

    network = network.eval().to(device)

    def classify(candidates: Candidates) -> tuple[Floats, Floats, Floats]:
        with torch.inference_mode():
            output = network(batch_of_one(candidates).to(device))
        logits, spot_logits, features = (values[0].cpu().numpy() for values in output)
        return logits, spot_logits, features

    return classify


SPOTS = SpotArchitecture()
