"""Files of spots per image, in the form deposited with CXIDB-76."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Where the cut in spots was, the file says only Hit or Miss.
_CLASSES = ("HIT", "MISS")
_LINE = re.compile(r"^(?P<number>\d+)\s+(?P<spots>\d+)(?:\s+(?P<label>\S+))?$")


@dataclass(frozen=True)
class SpotCounts:
    """Spots of the images of one file.

    by_frame: number of spots of each image with a line, by its number from 1; an image
    without a line has no spots. most_of_miss, fewest_of_hit: what the classes in the
    file say of the cut that they were made with; None where there is no such class.
    """

    by_frame: dict[int, int]
    most_of_miss: int | None
    fewest_of_hit: int | None

    def agrees_with(self, min_spots: int) -> bool:
        """Whether the classes in the file are those of a cut at min_spots."""
        miss, hit = self.most_of_miss, self.fewest_of_hit
        return (miss is None or miss < min_spots) and (hit is None or hit >= min_spots)


def read_spot_counts(path: str | Path) -> SpotCounts:
    """Lines such as ``00001    22 Miss``: number of the image, spots, class.

    The class may be left out. Raises ValueError for a line of another form, a class
    other than Hit and Miss, or an image that stands there twice.
    """
    by_frame: dict[int, int] = {}
    by_class: dict[str, list[int]] = {name: [] for name in _CLASSES}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            frame, spots, label = _parse(line.strip(), f"{path}, line {number}")
            if frame in by_frame:
                raise ValueError(
                    f"{path}, line {number}: image {frame} stands there twice; keep "
                    "one of the two lines"
                )
            by_frame[frame] = spots
            if label is not None:
                by_class[label].append(spots)
    if not by_frame:
        raise ValueError(f"{path} has no line such as '00001    22 Miss'")
    return SpotCounts(
        by_frame,
        max(by_class["MISS"], default=None),
        min(by_class["HIT"], default=None),
    )


def _parse(line: str, where: str) -> tuple[int, int, str | None]:
    match = _LINE.match(line)
    if not match:
        raise ValueError(f"{where}: '{line[:60]}' is not of the form '00001 22 Miss'")
    frame, spots = int(match["number"]), int(match["spots"])
    if frame < 1:
        raise ValueError(f"{where}: images are counted from 1, not {frame}")
    label = match["label"] and match["label"].upper()
    if label is not None and label not in _CLASSES:
        raise ValueError(f"{where}: '{match['label']}' is not one of Hit, Miss")
    return frame, spots, label
