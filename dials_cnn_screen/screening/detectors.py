"""The spots of a run on the pixels of its detectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from dxtbx.model import Beam, Detector
from numpy.typing import NDArray

from dials_cnn_screen.images.panels import find_panel_pixels
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.screening.recurring import DetectorSpots
from dials_cnn_screen.screening.results import ImageResult

Spots = NDArray[np.int64]


@dataclass(eq=False)
class DetectorImages:
    """The classified images of one detector, wherever it stands.

    Attributes:
        stills: In the order of the run.
        places: Places of these in the run.
    """

    stills: list[Still] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    _found: list[tuple[Spots, Spots, Spots]] = field(default_factory=list)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(slow, fast) of each panel, pixels."""
        first = self.stills[0]
        detector = first.imageset.get_detector(first.position)
        return [panel.get_image_size()[::-1] for panel in detector]

    def spots(self) -> DetectorSpots:
        """Their spots."""
        image, panel, pixel = map(np.concatenate, zip(*self._found, strict=True))
        return DetectorSpots(self.sizes, len(self.stills), image, panel, pixel)

    def add(self, images: list[tuple[int, Still, Spots]]) -> None:
        """Add images of one geometry.

        images: Place in the run, still, and its spots on the frame, int64 (n, 2).
        """
        spots = np.concatenate([spots for _, _, spots in images])
        panel, pixel = find_panel_pixels(*_find_geometry(images[0][1]), spots)
        first = len(self.stills)
        counts = [len(spots) for _, _, spots in images]
        image = np.repeat(np.arange(first, first + len(images)), counts)
        self._found.append((image, panel, pixel))
        self.places += [place for place, _, _ in images]
        self.stills += [still for _, still, _ in images]


def group_by_detector(
    images: Iterable[tuple[int, Still, ImageResult]],
) -> list[DetectorImages]:
    """The images that were classified by a model that looks for spots, by detector.

    Two detectors are one where names, identifiers and sizes of all panels are the same.

    images: Place in the run, still and result, in the order of the run.
    """
    groups: dict[tuple, DetectorImages] = {}
    batch: list[tuple[int, Still, Spots]] = []

    def add() -> None:
        if batch:
            key = _identify(_find_geometry(batch[0][1])[0])
            groups.setdefault(key, DetectorImages()).add(batch)
            batch.clear()

    for place, still, result in images:
        if result.prediction is None or result.prediction.spots is None:
            continue
        # Finding the pixels of panels takes time; images of one geometry share it.
        if batch and not _same_geometry(batch[0][1], still):
            add()
        batch.append((place, still, result.prediction.spots))
    add()
    return list(groups.values())


def _find_geometry(still: Still) -> tuple[Detector, Beam]:
    """Detector and beam of a still."""
    imageset, position = still.imageset, still.position
    return imageset.get_detector(position), imageset.get_beam(position)


def _same_geometry(one: Still, two: Still) -> bool:
    """Whether detectors and directions of the beam are the same."""
    (detector, beam), (other, other_beam) = map(_find_geometry, (one, two))
    same_beam = beam.get_unit_s0() == other_beam.get_unit_s0()
    return same_beam and detector == other


def _identify(detector: Detector) -> tuple:
    """What tells a detector from another one."""
    return tuple(
        (panel.get_name(), panel.get_identifier(), panel.get_image_size())
        for panel in detector
    )
