"""Files of spots per image, in the form deposited with CXIDB-76: ``00001 22 Miss``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# The deposited classes follow one minimum number of spots, so there is no Maybe.
_CLASSES = ("HIT", "MISS")
_LINE = re.compile(r"^(?P<number>\d+)\s+(?P<spots>\d+)(?:\s+(?P<label>\S+))?$")


@dataclass(frozen=True)
class SpotCounts:
    """Spots of the images of one file.

    Attributes:
        by_number: Number of spots of each image that has a line, by image number from
            1. An image without a line has no spots.
        most_of_miss: The most spots of an image that the file calls a Miss; None where
            it has no Miss.
        fewest_of_hit: The fewest spots of one that it calls a Hit; None where it has no
            Hit.
    """

    by_number: dict[int, int]
    most_of_miss: int | None
    fewest_of_hit: int | None

    def agrees_with(self, min_spots: int) -> bool:
        """Whether the file's Hits are the images with min_spots or more spots."""
        miss, hit = self.most_of_miss, self.fewest_of_hit
        return (miss is None or miss < min_spots) and (hit is None or hit >= min_spots)


def read_spot_counts(path: str | Path) -> SpotCounts:
    """Lines such as ``00001    22 Miss``: image number, spots, and maybe the class.

    Raises:
        ValueError: A line is of another form, has a class other than Hit and Miss, or
            is of an image that has a line already; or there are no lines.
        OSError: The file can't be read.
    """
    by_number: dict[int, int] = {}
    by_class: dict[str, list[int]] = {name: [] for name in _CLASSES}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {line_number}"
            number, spots, label = _parse(line.strip(), where)
            if number in by_number:
                raise ValueError(
                    f"{where}: image {number} has two lines; keep one of them"
                )
            by_number[number] = spots
            if label is not None:
                by_class[label].append(spots)
    if not by_number:
        raise ValueError(f"{path} has no line such as '00001    22 Miss'")
    return SpotCounts(
        by_number,
        max(by_class["MISS"], default=None),
        min(by_class["HIT"], default=None),
    )


def _parse(line: str, where: str) -> tuple[int, int, str | None]:
    """Image number, spots and class of a line."""
    match = _LINE.match(line)
    if not match:
        raise ValueError(f"{where}: '{line[:60]}' is not of the form '00001 22 Miss'")
    number, spots = int(match["number"]), int(match["spots"])
    if number < 1:
        raise ValueError(f"{where}: images are counted from 1, not {number}")
    label = match["label"] and match["label"].upper()
    if label is not None and label not in _CLASSES:
        raise ValueError(f"{where}: '{match['label']}' is not one of Hit, Miss")
    return number, spots, label
