"""The registry's entries of the paper's networks, as printed and as deposited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import (
    PAPER_SCHEDULE,
    Explanation,
    NetworkOutput,
    Pipeline,
)
from dials_cnn_screen.images.batch import Layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.ke2018.preprocessing import Preprocessing
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.util.devices import can_compile_kernels, use_card

# What takes time to import, torch and numba, is imported where it is used.
if TYPE_CHECKING:
    from dials_cnn_screen.ke2018.network import Ke2018
    from dials_cnn_screen.ke2018.pipeline_cuda import ImageBatches
    from dials_cnn_screen.ke2018.training_set import Dataset, ImageSchedule


@dataclass(frozen=True)
class ImageArchitecture:
    """A network that sees the middle of the frame as one image.

    Attributes:
        name: As in the registry.
        configuration: What is not as printed, by field of Ke2018Config.
    """

    name: str
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def preparation(self, **values: Any) -> Preprocessing:
        """Binning, crop and contrast."""
        return Preprocessing(**values)

    def network(self, **configuration: Any) -> Ke2018:
        """A Ke2018 with fresh weights."""
        from dials_cnn_screen.ke2018.network import Ke2018, Ke2018Config

        return Ke2018(Ke2018Config(**{**self.configuration, **configuration}))

    def stored_network(
        self, configuration: dict[str, Any], weights: dict[str, NDArray]
    ) -> None:
        """It takes torch."""

    def check(self, network: Ke2018, preparation: Preprocessing) -> None:
        """The network takes images of one size."""
        if preparation.size != network.config.size:
            raise ValueError(
                f"its network takes {network.config.size} bins, its preprocessing "
                f"gives {preparation.size}"
            )

    def n_features(self, network: Ke2018) -> int:
        """The feature maps of the last stage."""
        return network.config.n_features

    def max_spots(self, preparation: Preprocessing) -> None:
        """It looks for no spots."""

    def pipeline(
        self, network: Ke2018, preparation: Preprocessing, device: str
    ) -> Pipeline:
        """On cuda all on the GPU where there are kernels for it, else the network."""
        if device == "cuda":
            device = use_card()
        if device == "cpu" or not self.has_kernels(preparation):
            return ImagePipeline(network, preparation, device)
        from dials_cnn_screen.single_frames import SingleFrames

        return SingleFrames(
            lambda layout: self.batches(network, preparation, layout, 1, device),
            ImagePipeline(network, preparation, "cpu"),
            device,
        )

    def has_kernels(self, preparation: Preprocessing) -> bool:
        """Whether there are kernels for a GPU, and a compiler for them."""
        return (
            preparation.binning == 2
            and preparation.contrast == "lcn"
            and can_compile_kernels()
        )

    def batches(
        self,
        network: Ke2018,
        preparation: Preprocessing,
        layout: Layout,
        batch: int,
        device: str,
    ) -> ImageBatches:
        """Preparation and network on a GPU, for batches of frames of one layout."""
        from dials_cnn_screen.ke2018.pipeline_cuda import ImageBatches

        return ImageBatches(network, preparation, layout, batch, device)

    def schedule(self, name: str, from_model: bool) -> ImageSchedule:
        """Short, or the paper's."""
        from dials_cnn_screen.ke2018.training_set import SHORT, SHORT_FROM_MODEL

        schedule = SHORT_FROM_MODEL if from_model else SHORT
        return replace(schedule, **PAPER_SCHEDULE) if name == "paper" else schedule

    def freeze(self, network: Ke2018) -> None:
        """All weights are trained."""

    def training_bytes(self, preparation: Preprocessing) -> int:
        """The image with a margin for random crops, float16."""
        from dials_cnn_screen.ke2018.training_set import with_margin

        return 2 * with_margin(preparation).size ** 2

    def on_disk(self) -> bool:
        """Images are too large for memory."""
        return True

    def prepare_for_training(
        self, frame: Frame, preparation: Preprocessing
    ) -> NDArray[np.float16]:
        """The image with a margin for random crops."""
        from dials_cnn_screen.ke2018.preprocessing_cpu import prepare
        from dials_cnn_screen.ke2018.training_set import as_stored, with_margin

        return as_stored(
            prepare(frame.data, frame.mask, frame.beam_centre, with_margin(preparation))
        )

    def training_set(self, n: int, preparation: Preprocessing, folder: Path) -> Dataset:
        """In an unnamed file in folder, which goes with the process."""
        from dials_cnn_screen.ke2018.training_set import Dataset, allocate_unnamed

        images = allocate_unnamed(folder, n, preparation)
        return Dataset(images, np.zeros(n, dtype=np.int64))

    def explain(
        self,
        network: Ke2018,
        preparation: Preprocessing,
        frame: Frame,
        temperature: float,
        predicted: Label,
        labelled: Label | None,
    ) -> Explanation:
        """To which pixels the loss of the label is most sensitive (Fig. 10)."""
        from dials_cnn_screen.ke2018.explanation import explain_pixels

        return explain_pixels(network, preparation, frame, predicted, labelled)


class ImagePipeline:
    """Frame to image to classes."""

    def __init__(
        self, network: Ke2018, preprocessing: Preprocessing, device: str
    ) -> None:
        from dials_cnn_screen.ke2018.network import fuse
        from dials_cnn_screen.ke2018.preprocessing_cpu import prepare

        self._prepare = prepare
        self._preprocessing = preprocessing
        self._device = device
        self._network = fuse(network).to(device)

    def prepare(self, frame: Frame) -> NDArray[np.float32]:
        """The image, (size, size)."""
        return self._prepare(
            frame.data, frame.mask, frame.beam_centre, self._preprocessing
        )

    def run(self, prepared: NDArray[np.float32]) -> NetworkOutput:
        """Logits and features of the image."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(prepared)[None, None].to(self._device)
            features = self._network.features(batch).flatten(start_dim=1)
            logits = self._network.classifier(features)
        return NetworkOutput(
            logits[0].cpu().numpy(), features[0].cpu().numpy(), spots=None
        )


KE2018 = ImageArchitecture("ke2018")
# The deposited code has a larger first convolution and max-pool than the paper prints.
FV5080 = ImageArchitecture("fv5080", {"first_kernel": 7, "first_pool": 3})
