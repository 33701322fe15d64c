"""Hit rates of a run and of each of its files, with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.util.intervals import as_percent, wilson_interval


@dataclass
class HitRate:
    """How many of the images of one source are hits; they are added one by one.

    Attributes:
        source: A file of several images, or a folder of files of one each.
        images: How many, those that could not be classified among them.
        hits, kept, failed: Of those: of class Hit, kept, not classified.
    """

    source: str
    images: int = 0
    hits: int = 0
    kept: int = 0
    failed: int = 0

    def add(self, label: Label | None, kept: bool) -> None:
        """Count one more image; None is the label of one that was not classified."""
        self.images += 1
        self.hits += label is Label.HIT
        self.kept += kept
        self.failed += label is None

    @property
    def percent(self) -> float:
        """Hits of all images."""
        return 100 * self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the rate of hits, from 0 to 1 (Wilson)."""
        return wilson_interval(self.hits, self.images)

    def as_json(self) -> dict[str, Any]:
        """The numbers, in the form of cnn_screen.json."""
        return {
            "source": self.source,
            "images": self.images,
            "hits": self.hits,
            "kept": self.kept,
            "failed": self.failed,
            "hit_percent": round(self.percent, 2),
            "hit_percent_interval": as_percent(self.interval),
        }


def name_sources(names: Sequence[ImageName], shown: Sequence[ImageName]) -> list[str]:
    """The source of each image: its file, or the folder of a file of one image.

    Args:
        names: Of the images, with folders.
        shown: The same with as much of the path as tells files apart.
    """
    n_images = Counter(name.path for name in names)
    return [
        short.path if n_images[name.path] > 1 else str(PurePath(name.path).parent)
        for name, short in zip(names, shown, strict=True)
    ]
