"""Names of images, and the one rule by which two names are of the same image.

An image is a file and a number in it. A label file, a scores file and an experiment
list may have more or fewer of the folders before the file: two names match if one path
is the end of the other, folder by folder, and the numbers are equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

# The text is split at its last bracket only, so that no pattern has to try twice.
_NUMBER = re.compile(r"\[(\d{1,9})\]")


@dataclass(frozen=True, order=True, slots=True)
class ImageName:
    """The name of one image.

    Attributes:
        path: The file, with as many folders as are known.
        number: The number of the image in its file, from 1.
    """

    path: str
    number: int = 1

    def __str__(self) -> str:
        """The text form: ``run1/r0027_2000.h5 [3]``."""
        return f"{self.path} [{self.number}]"

    @property
    def file(self) -> str:
        """The name of the file without folders."""
        return PurePath(self.path).name


def parse_image_name(text: str) -> ImageName:
    """The name that stands in a text such as ``run1/r0027_2000.h5 [3]``.

    Raises:
        ValueError: The text is of another form, or the number is 0.
    """
    path, bracket, rest = text.strip().rpartition("[")
    number = _NUMBER.fullmatch(bracket + rest)
    if not number or not path.strip() or not path[-1].isspace():
        raise ValueError(f"'{text.strip()[:60]}' is not of the form 'file.h5 [1]'")
    if int(number[1]) < 1:
        raise ValueError(f"images are counted from 1, not {int(number[1])}")
    return ImageName(path.strip(), int(number[1]))


def short_names(names: Sequence[ImageName]) -> list[ImageName]:
    """The same names with as few folders as tell the files apart.

    The file alone where no other file has its name; ``run1/data.h5`` and
    ``run2/data.h5`` where two have.
    """
    alike: dict[str, list[tuple[str, ...]]] = {}
    for path in dict.fromkeys(name.path for name in names):
        parts = PurePath(path).parts
        alike.setdefault(parts[-1] if parts else "", []).append(parts)
    n_parts: dict[tuple[str, ...], int] = {}
    for group in alike.values():
        n = 1
        while len({parts[-n:] for parts in group}) < len(group):
            n += 1
        n_parts |= dict.fromkeys(group, n)

    def shorten(path: str) -> str:
        parts = PurePath(path).parts
        return str(PurePath(*parts[-n_parts[parts] :]))

    short = {path: shorten(path) for path in dict.fromkeys(n.path for n in names)}
    return [ImageName(short[name.path], name.number) for name in names]


class NameIndex:
    """Finds images by name among those that are given."""

    def __init__(self, names: Sequence[ImageName]) -> None:
        self.names = list(names)
        self._by_file: dict[tuple[str, int], list[int]] = {}
        for i, name in enumerate(self.names):
            self._by_file.setdefault((name.file, name.number), []).append(i)

    def find(self, name: ImageName) -> int | None:
        """Index of the image of this name; None where there is none.

        Raises:
            ValueError: Several images match; the message names them.
        """
        wanted = PurePath(name.path).parts
        matches = [
            i
            for i in self._by_file.get((name.file, name.number), [])
            if _is_end_of(wanted, PurePath(self.names[i].path).parts)
        ]
        if len(matches) > 1:
            # A full path means itself, though it be the end of a longer one.
            exact = [i for i in matches if self.names[i].path == name.path]
            if len(exact) != 1:
                paths = sorted({self.names[i].path for i in matches})
                if len(paths) == 1:
                    raise ValueError(f"{name} is there {len(matches)} times")
                raise ValueError(
                    f"{name} could be an image of {len(paths)} files, "
                    f"{', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}; write "
                    "the folder before the name of the file"
                )
            matches = exact
        return matches[0] if matches else None


def _is_end_of(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter path is the end of the longer one."""
    n = min(len(one), len(other))
    return n > 0 and one[-n:] == other[-n:]


def format_names(names: Sequence[ImageName], most: int = 3) -> str:
    """Some names in one line: the first ones, and ``...`` where there are more."""
    some = ", ".join(map(str, names[:most]))
    return f"{some}, ..." if len(names) > most else some
