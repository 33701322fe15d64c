"""The images that are given to a processor of stills: which there are, which are read.

dials.stills_process stops at the first file that can't be imported, and a process of it
at the first image whose models can't be read. Here the others are processed.
"""

from __future__ import annotations

import contextlib
import fractions
import glob
import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dials.command_line import stills_process
from dials.util import Sorry
from dxtbx.model import Experiment, ExperimentList

from dials_cnn_screen.images.stills import name_image
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.screening.veto_experiments import (
    Errors,
    Import,
    import_image_by_image,
    import_readable,
)
from dials_cnn_screen.screening.veto_record import Record
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.input_files import why_unreadable

logger = logging.getLogger("dials.cnn_screen.veto")

_SHOWN = 3  # unreadable files in a message of one line


def find_files(words: list[str], params: Any) -> tuple[list[str], list[str]]:
    """The files that are given, and what is given but not there.

    Args:
        words: Of the command line, other than parameters and options.
        params: Of stills_process; input.glob and input.file_list are read.

    Raises:
        ValueError: A word is neither a file nor could be one.
        OSError: input.file_list can't be read.
    """
    words = [*words, *(params.input.glob or [])]
    if not words and params.input.file_list is not None:
        with open(params.input.file_list, encoding="utf-8") as listed:
            words = [line.strip() for line in listed if line.strip()]
    files, missing = [], []
    for word in words:
        found = [word] if os.path.exists(word) else glob.glob(word)
        if word.endswith(".phil"):
            raise ValueError(f"the parameters in '{word}' can't be read")
        if not found and (word.startswith("-") or "=" in word):
            raise ValueError(f"there is no parameter, option or file '{word}'")
        files += found
        missing += [] if found else [word]
    return files, missing


class GivenImages:
    """The images that are given to a run, as DIALS imports them.

    Attributes:
        names: In the order of DIALS; one that is given twice stands here twice.
        unreadable: Why files could not be imported.
        imported: Whether all files were tried.
    """

    def __init__(
        self, files: list[str], missing: list[str], params: Any, world: Any
    ) -> None:
        self.names: list[ImageName] = []
        self.unreadable = dict.fromkeys(missing, "there is no such file")
        self.imported = False
        self._files, self._left = files, len(files)
        self._params = params
        self._world = world

    @contextlib.contextmanager
    def reading(self, record: Record) -> Iterator[None]:
        """Let stills_process go on without the files and images that can't be read."""
        import_file, load_models = stills_process.do_import, Experiment.load_models

        def import_or_note(filename: str, load_models: bool = True) -> ExperimentList:
            try:
                experiments = self._import(filename, import_file, record)
            except Exception as error:  # whatever dxtbx or a file format may raise
                experiments = ExperimentList()
                self.unreadable[filename] = why_unreadable(filename, error)
            self.names += [name_image(e.imageset, 0) for e in experiments]
            self._left -= 1
            if not self._left:
                self._check()
                self.imported = True
            return experiments

        def load_or_note(experiment: Experiment, index: int | None = None) -> None:
            try:
                load_models(experiment, index)
            except Exception as error:
                record.failed(name_image(experiment.imageset, index or 0), error)
                # For this one alone stills_process goes on with the next image.
                raise RuntimeError(one_line(error)) from error

        stills_process.do_import = import_or_note
        Experiment.load_models = load_or_note
        try:
            yield
        finally:
            stills_process.do_import = import_file
            Experiment.load_models = load_models

    def _import(self, file: str, import_file: Import, record: Record) -> ExperimentList:
        """The images in a file; of an experiment list those that can be read."""
        try:
            experiments = import_file(file, load_models=False)
        except Exception as problem:
            # Without some images the tags of the others are not what they were.
            if self._params.input.image_tag:
                raise
            experiments, errors = _import_some(file, import_file, problem)
            for name, error in errors.items():
                record.failed(name, error)
        if not experiments:
            raise ValueError("there are no images in it")
        return experiments

    def format_unreadable(self) -> str:
        """The files that can't be read, in one line."""
        told = [f"{file} can't be read: {e}" for file, e in self.unreadable.items()]
        more = len(told) - _SHOWN
        return "; ".join(told[:_SHOWN] + [f"{more} files more"] * (more > 0))

    def selected(self) -> list[ImageName]:
        """Those that stills_process is to process, each once."""
        tags, names = self._params.input.image_tag, self.names
        if tags:
            names = [
                n for n, tag in zip(names, self._tags(), strict=True) if tag in tags
            ]
        if self._params.input.max_images:
            names = names[: self._params.input.max_images]
        percent = self._params.dispatch.process_percent
        if percent and self._world and self._world.size > 2:  # left out elsewhere
            part = fractions.Fraction(percent / 100).limit_denominator(100)
            names = [
                name
                for i, name in enumerate(names)
                if i % part.denominator < part.numerator
            ]
        return list(dict.fromkeys(names))

    def _tags(self) -> list[str]:
        """The tag of each image, as stills_process makes them."""
        stems = [os.path.splitext(name.file)[0] for name in self.names]
        count = Counter(stems)
        return [
            f"{stem}_{i:05d}" if count[stem] > 1 else stem
            for i, stem in enumerate(stems)
        ]

    def _check(self) -> None:
        """Raise Sorry where nothing, or not what was asked for, would be processed."""
        for file, error in self.unreadable.items():
            logger.warning("%s can't be read: %s", file, error)
        if not self.names:
            raise Sorry(self.format_unreadable())
        if scores := self._params.cnn_screen.scores:
            path = os.path.join(self._params.output.output_dir, scores)
            check_outputs(path, inputs={*self._files, *(n.path for n in self.names)})
        if self._params.input.image_tag and self.unreadable:
            raise Sorry(
                f"{self.format_unreadable()}; without it the tags of input.image_tag "
                "are those of other images"
            )
        if not self.selected():
            raise Sorry(
                "no image is left by input.image_tag and dispatch.process_percent"
            )
        seen = zlib.crc32(repr(self.names).encode())
        if self._world and len(set(self._world.allgather(seen))) > 1:
            raise Sorry("the MPI ranks do not find the same images in the files")


def _import_some(
    file: str, import_file: Import, problem: Exception
) -> tuple[ExperimentList, Errors]:
    """The images that can be read where DIALS has a problem with the file; errors."""
    if file.endswith((".expt", ".json")):
        return import_readable(file, import_file)
    try:
        return import_image_by_image(file)
    except Exception:  # what DIALS said tells more
        raise problem from None
