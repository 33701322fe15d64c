"""What people write for images, as the files that DIALS's parser takes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LISTS = (".lst", ".list", ".txt")
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
# A number of CrystFEL's lists, from 0: "run.cxi //17".
_EVENT = re.compile(r"(.+?)\s+//(\d+)")
MASTER = re.compile(r"(.+)_master\.\w+")
_LONGEST_RANGE = 10_000_000  # images, by hand: no run has as many


def parse_ranges(text: str) -> list[int]:
    """The numbers of ``1-500,800``, each once, in ascending order.

    Raises:
        ValueError: The text is of another form.
    """
    numbers: set[int] = set()
    for part in text.replace(" ", "").split(","):
        if not _RANGES.fullmatch(part):
            raise ValueError(f"'{text}' is not of the form '1-500,800'")
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high < _LONGEST_RANGE:
            raise ValueError(f"'{part}' is no range of images, which count from 1")
        numbers.update(range(low, high + 1))
    return sorted(numbers)


@dataclass
class Words:
    """The words of a command line.

    Attributes:
        args: With files in place of folders, patterns, templates and lists.
        numbers: By the full path of a file, which of its images are meant; all of a
            file that is not here.
        notes: What was left out, and why, a line each.
    """

    args: list[str] = field(default_factory=list)
    numbers: dict[str, set[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_words(args: Sequence[str]) -> Words:
    """The words with folders, patterns, templates, lists and numbers as files.

    A folder gives the images in it; ``run_####.cbf`` those of all numbers; a text file
    (.lst, .list, .txt) the files whose names are its lines, as CrystFEL has them;
    ``run.h5:17`` and ``run.h5:1-20,30`` some images of a file. Where a file and its
    master are given, the master alone is taken.

    Raises:
        ValueError: A range that is none, or a folder or list without images.
    """
    words = Words()
    for word in args:
        is_option = word.startswith("-") or ("=" in word and not os.path.exists(word))
        words.args += [word] if is_option else _find_files(word, words)
    _leave_out_parts(words)
    return words


def _find_files(word: str, words: Words) -> list[str]:
    """The files of one word; the word itself where it is of no such form."""
    if os.path.isdir(word):
        return _list_folder(word, words)
    if os.path.isfile(word):
        return _read_list(word, words) if word.endswith(_LISTS) else [word]
    path, _, numbers = word.rpartition(":")
    if os.path.isfile(path) and _RANGES.fullmatch(numbers):
        _choose(path, parse_ranges(numbers), words)
        return [path]
    if "#" in word:
        pattern = re.sub("#+", lambda m: "[0-9]" * len(m[0]), glob.escape(word))
        return sorted(glob.glob(pattern)) or [word]
    return expand(word) or [word]


def expand(word: str) -> list[str]:
    """The files of a word of the command line, which may be a quoted pattern."""
    if os.path.exists(word):
        return [word]
    return sorted(glob.glob(word)) if glob.has_magic(word) else []


def _choose(path: str, numbers: Iterable[int], words: Words) -> None:
    words.numbers.setdefault(os.path.abspath(path), set()).update(numbers)


def _list_folder(folder: str, words: Words) -> list[str]:
    """The images in a folder, not those in folders of it."""
    # Not above: it loads all formats.
    from dxtbx.format.Registry import get_format_class_for_file

    files = [
        str(file)
        for file in sorted(Path(folder).iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]
    masters = _find_masters(files)
    images = []
    for file in files:
        if (
            belongs_to_master(file, masters)
            or get_format_class_for_file(file) is not None
        ):
            images.append(file)
    if not images:
        raise ValueError(f"there are no images in the folder '{folder}'")
    if n_others := len(files) - len(images):
        words.notes.append(f"{n_others} files of {folder} are no images: left out")
    return images


def _read_list(path: str, words: Words) -> list[str]:
    """The files that a list names; the path itself if its first line names no file."""
    folder = Path(path).parent
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [path]
    files: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        event = _EVENT.fullmatch(line.strip())
        name = event[1] if event else line.strip()
        found = [p for p in (Path(name), folder / name) if p.is_file()]
        if not found and not files:
            return [path]
        if not found:
            raise ValueError(f"{path}, line {number}: there is no file '{name}'")
        files[str(found[0])] = None
        if event:
            _choose(str(found[0]), [int(event[2]) + 1], words)
    return list(files) or [path]


def _leave_out_parts(words: Words) -> None:
    """Leave out files of which the master is among the words."""
    kept = leave_to_masters(words.args)
    if n := len(words.args) - len(kept):
        words.notes.append(f"{n} files are read through their master: left out")
    words.args = kept


def leave_to_masters(files: Sequence[str]) -> list[str]:
    """The files without those that are read through a master among them."""
    masters = _find_masters(files)
    return [file for file in files if not belongs_to_master(file, masters)]


def _find_masters(files: Sequence[str]) -> set[str]:
    """The master files, without the end of their names."""
    return {match[1] for file in files if (match := MASTER.fullmatch(file))}


def belongs_to_master(file: str, masters: set[str]) -> bool:
    """Whether a file is a data or metadata file of one of these masters."""
    match = re.fullmatch(r"(.+)_(data_\w+|meta(_\w+)?)\.\w+", file)
    return match is not None and match[1] in masters
