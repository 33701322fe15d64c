"""The files among the arguments of a program, and which of them can't be read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory

# What DIALS's parser takes for something else than images.
_NO_IMAGES = (".phil", ".refl", ".pickle")
_LONGEST = 300  # characters of an error, by hand


def expand(word: str) -> list[str]:
    """The files of a word of the command line, which may be a quoted pattern."""
    if os.path.exists(word):
        return [word]
    return sorted(glob.glob(word)) if glob.has_magic(word) else []


def find_image_files(words: Iterable[str]) -> list[str]:
    """Image files and experiment lists among words of the command line."""
    return [
        file
        for word in words
        if "=" not in word
        for file in expand(word)
        if os.path.isfile(file) and not file.endswith(_NO_IMAGES)
    ]


def find_unreadable(files: Iterable[str]) -> dict[str, str]:
    """The files that dxtbx can't read, and why, in one line each."""
    unreadable = {}
    for file in files:
        try:
            _read(file)
        except Exception as error:  # whatever dxtbx or a file format may raise
            text = " ".join(str(error).split())[:_LONGEST]
            kind = type(error).__name__
            # A KeyError and its kin say no more than a word.
            known = isinstance(error, OSError | ValueError | RuntimeError)
            unreadable[file] = text if known and text else f"{kind}: {text}"
    return unreadable


def _read(file: str) -> None:
    if file.endswith((".expt", ".json")):
        try:
            ExperimentList.from_file(file, check_format=False)
        except ValueError as error:  # of JSON, or of bytes that are no text
            raise ValueError(f"it is no experiment list ({error})") from error
        return
    unhandled: list[str] = []
    ExperimentListFactory.from_filenames([file], unhandled=unhandled)
    if unhandled:
        raise ValueError(
            "it is neither an image that dxtbx can read nor an experiment list"
        )
