"""What an expert labels, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.viewer.overlay import Spots
from dials_cnn_screen.viewer.session import Keys


@dataclass(frozen=True, eq=False)
class Task:
    """What an expert labels, and how.

    Attributes:
        labels: The label file, with the names of its images.
        order: Indices of the images to be shown, first to last; None shows all in the
            order of the file.
        keys: The keys of the tool.
        spots: To be circled once an image is labelled.
        always_circle: Circle them on images without a label too.
        answers: What a model found, for those who ask once an image is labelled.
        region: Where the expert looks, as region_of_interest of an Eye; None:
            everywhere.
    """

    labels: LabelFile
    order: Sequence[int] | None = None
    keys: Keys = field(default_factory=Keys)
    spots: Mapping[ImageName, Spots] = field(default_factory=dict)
    always_circle: bool = False
    answers: Mapping[ImageName, ImageResult] = field(default_factory=dict)
    region: Sequence[int] | None = None
