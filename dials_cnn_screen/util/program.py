"""What all programs do: parse arguments, open the log, turn errors into Sorry."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import copy
import gc
import itertools
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import dials.util.log
import libtbx.phil
from dials.util import Sorry
from dials.util.options import (
    ArgumentParser,
    flatten_experiments,
    flatten_reflections,
)
from dials.util.version import dials_version
from dxtbx.model import ExperimentList

from dials_cnn_screen import __version__
from dials_cnn_screen.util.errors import LONGEST_MESSAGE, one_line, plain_text, shorten
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.input_files import (
    check_claims,
    find_image_files,
    find_unreadable,
    read_image_by_image,
)
from dials_cnn_screen.util.input_words import expand
from dials_cnn_screen.util.interrupts import Interrupted
from dials_cnn_screen.util.starting import raise_on_interrupt

CITATION = (
    "Ke, T.-W., Brewster, A. S., Yu, S. X., Ushizima, D., Yang, C. & Sauter, N. K. "
    "(2018). J. Synchrotron Rad. 25, 655-670."
)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can mend, Ctrl-C and SIGTERM into one line.

    The exit status is 1, 130 or 143.
    """
    raise_on_interrupt()
    try:
        yield
    except (ValueError, OSError) as error:
        raise Sorry(shorten(plain_text(error), LONGEST_MESSAGE)) from None
    except MemoryError as error:
        raise Sorry(f"there is not enough memory; {shorten(str(error))}") from None
    except KeyboardInterrupt as error:
        print(
            f"Sorry: {str(error) or 'interrupted; no result was written'}",
            file=sys.stderr,
        )
        status = error.exit_status if isinstance(error, Interrupted) else 130
        raise SystemExit(status) from None


def peak_memory() -> float | None:
    """The most memory that this process has had, in bytes; None where not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class Parser(ArgumentParser):
    """DIALS's parser, which says what is wrong with an argument in one line."""

    def parse_args(self, args: list[str] | None = None, **options: Any) -> Any:
        """What DIALS's parser makes of them; nproc is that of the program.

        PHIL finds it ambiguous where the parameters of spot finding have one too.
        """
        given = sys.argv[1:] if args is None else args
        words = [re.sub(r"^nproc(?=\s*=)", "mp.nproc", word) for word in given]
        return super().parse_args(words, **options)

    def error(self, message: str) -> None:
        """Raise Sorry, for an option or, since DIALS 3.30, a parameter of PHIL.

        argparse shows the usage before it.
        """
        raise Sorry(shorten(message))


class Parsed(NamedTuple):
    """What a program was called with.

    Attributes:
        params: PHIL extract.
        experiments: Of the .expt files or images; empty without any.
        reflections: Tables of the .refl files.
        changes: The parameters that were changed, in PHIL form.
        unreadable: Files that were left out since they can't be read, and why.
    """

    params: Any
    experiments: ExperimentList
    reflections: list[Any]
    changes: str
    unreadable: dict[str, str]


def parse_images(
    program: str,
    doc: str | None,
    phil: libtbx.phil.scope,
    args: list[str] | None,
    usage: str = "imported.expt | image files",
    read_reflections: bool = False,
    check_format: bool = True,
    leave_out_unreadable: bool = False,
) -> Parsed:
    """Arguments of a program that takes experiments or image files.

    Opens the log, with versions and what was modified; shows the help without
    arguments. Raises Sorry for arguments that are not understood, in one line.

    Args:
        check_format: Open the images of .expt files, which takes long for many of them.
            Without, images/opening.py does when they are read.
        leave_out_unreadable: Go on without files that can't be read, where there are
            others; a file that an .expt names may be missing then.
    """

    def make_parser() -> Parser:
        return Parser(
            usage=f"{program} [options] {usage}",
            phil=phil,
            read_experiments=True,
            read_experiments_from_images=True,
            read_reflections=read_reflections,
            check_format=check_format,
            epilog=doc,
        )

    given = sys.argv[1:] if args is None else args
    # DIALS's parser knows * alone among patterns.
    args = [file for word in given for file in expand(word) or [word]]
    parser = make_parser()
    show_help_if_empty(parser, args)
    unreadable: dict[str, str] = {}
    partly: dict[str, ExperimentList] = {}
    try:
        params = parse(parser, args, program)
    except Sorry:
        # Not before, as it takes as long as reading all files.
        if leave_out_unreadable:
            args, unreadable, partly = _leave_out_unreadable(parser, args)
        if not unreadable and not partly:
            raise
        parser = make_parser()
        params = _parse_and_log(parser, args, program)
    for file, error in unreadable.items():
        logging.getLogger(program).warning("%s can't be read: %s", file, error)
    for wrapper in params.input.experiments:
        if not wrapper.data:
            logging.getLogger(program).warning("%s has no images", wrapper.filename)
    if not check_format and not leave_out_unreadable:
        for wrapper in params.input.experiments:
            _check_files(wrapper.filename, wrapper.data)
    return Parsed(
        params,
        _join([flatten_experiments(params.input.experiments), *partly.values()]),
        flatten_reflections(params.input.reflections) if read_reflections else [],
        find_changes(parser).as_str(),
        unreadable,
    )


def _join(lists: list[ExperimentList]) -> ExperimentList:
    """One list of all their experiments."""
    joined, *others = lists
    for experiments in others:
        joined.extend(experiments)
    return joined


def _leave_out_unreadable(
    parser: ArgumentParser, args: list[str]
) -> tuple[list[str], dict[str, str], dict[str, ExperimentList]]:
    """The arguments without the files that can't be read.

    Returns:
        The arguments; the files that can't be read, and why; the images of those of
        which some can. All arguments and nothing else where no file can be read, or all
        can.
    """
    _, words = argparse.ArgumentParser.parse_known_args(parser, args)
    files = find_image_files(words)
    unreadable, partly = find_unreadable(files), {}
    for file in list(unreadable):
        with contextlib.suppress(Exception):  # why it can't be read is known
            partly[file] = read_image_by_image(file)
            del unreadable[file]
    if len(unreadable) == len(files):
        return args, {}, {}
    kept: list[str] = []
    for word in args:
        matches = [file for file in expand(word) if file in files]
        left_out = unreadable | partly
        kept += [f for f in matches if f not in left_out] if matches else [word]
    return kept, unreadable, partly


def _check_files(name: str, experiments: ExperimentList) -> None:
    """Sorry where a file that an experiment list names is missing.

    As DIALS does with formats: of several image files in one imageset the first counts,
    and any other is missed when its image is read.
    """
    needed: dict[str, None] = {}
    for imageset in experiments.imagesets():
        lookup = imageset.external_lookup
        maps = lookup.mask, lookup.gain, lookup.pedestal, lookup.dx, lookup.dy
        needed[imageset.get_path(0)] = None
        needed.update(dict.fromkeys(map_.filename for map_ in maps))
    for path in needed:
        if path and "://" not in path and not os.path.exists(path):
            raise Sorry(f'"{name}" cannot be used: No such file or directory: {path}')


def parse(parser: ArgumentParser, args: list[str] | None, program: str) -> Any:
    """Parameters of a run; the log is opened, with versions and what was modified.

    Raises Sorry for arguments that are not understood, in one line.
    """
    # As it ends, Python looks for garbage in all that was imported, for 0.8 s.
    atexit.register(gc.freeze)
    return _parse_and_log(parser, args, program)


def _parse_and_log(parser: ArgumentParser, args: list[str] | None, program: str) -> Any:
    params, options = _parse_arguments(parser, args)
    changes = find_changes(parser)
    _check_auto(changes)
    if _is_first_rank(params):
        given = sys.argv[1:] if args is None else args
        _check_outputs(parser, params, [f for word in given for f in expand(word)])
        # Where lines for another program go to the standard output, nothing else does.
        is_taken = getattr(params.output, "lines", None) == "-"
        with contextlib.redirect_stdout(sys.stderr if is_taken else sys.stdout):
            dials.util.log.config(verbosity=options.verbose, logfile=params.output.log)
        # It warns where its cache has no folder, as without a home.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        logger = logging.getLogger(program)
        logger.info("%s, %s %s", dials_version(), program, __version__)
        if modified := changes.as_str():
            logger.info("The following parameters have been modified:\n\n%s", modified)
    return params


def _check_outputs(parser: ArgumentParser, params: Any, files: list[str]) -> None:
    """Raise ValueError where an output would destroy what is read.

    A parameter may name what an output of the same kind replaces: calibration.scores
    is often the output.scores of the run before.

    files: among the arguments.
    """
    check_outputs(params.output.log)
    images = (
        path
        for wrapper in (params.input.experiments if hasattr(params, "input") else [])
        for imageset in wrapper.data.imagesets()
        for path in set(imageset.paths())
    )
    read = {os.path.realpath(path): "" for path in (*files, *images)}
    outputs: dict[str, str] = {}
    for place in parser.phil.all_definitions():
        value = place.object.extract()
        if place.object.type.phil_type != "path" or not isinstance(value, str):
            continue
        kind = place.path.rpartition(".")[2]
        if place.path.startswith("output."):
            outputs[kind] = value
        elif os.path.isfile(value):
            read[os.path.realpath(value)] = kind
    for kind, path in outputs.items():
        if read.get(os.path.realpath(path), kind) != kind:
            check_outputs(path, inputs=[path])


def find_changes(parser: ArgumentParser) -> libtbx.phil.scope:
    """What was modified, as parser.diff_phil has it.

    That one reads all files of experiments and reflections anew; here their names do.
    """
    path = libtbx.phil.parse("path = None\n.type = path").objects[0].type
    scopes = [copy.deepcopy(phil) for phil in (parser.system_phil, parser.phil)]
    for scope in scopes:
        for place in scope.all_definitions():
            if place.path in ("input.experiments", "input.reflections"):
                place.object.type = path
    before, after = scopes
    return before.fetch_diff(source=after)


def show_help_if_empty(parser: ArgumentParser, args: list[str] | None) -> None:
    """Show the help and end, where a program is called without arguments."""
    if not (sys.argv[1:] if args is None else args):
        parser.print_help()
        raise SystemExit(0)


def _check_auto(changes: libtbx.phil.scope) -> None:
    """Sorry where Auto is given to a parameter of which no help tells what it means.

    PHIL takes it for a number of any kind.
    """
    for place in changes.all_definitions():
        words = [word.value for word in place.object.words]
        is_ours = not place.path.startswith("spotfinder.")
        if is_ours and words == ["Auto"] and "Auto" not in (place.object.help or ""):
            raise Sorry(f"{place.path} cannot be Auto; give a value, or leave it out")


def _is_first_rank(params: Any) -> bool:
    """Whether this process is the one that speaks: with mp.method=mpi only rank 0."""
    if getattr(getattr(params, "mp", None), "method", None) != "mpi":
        return True
    from dials_cnn_screen.util.mpi import mpi_world

    return mpi_world().rank == 0


def _parse_arguments(
    parser: ArgumentParser, args: list[str] | None
) -> tuple[Any, argparse.Namespace]:
    """Parameters and options, by DIALS's parser and without its tracebacks."""
    _, words = argparse.ArgumentParser.parse_known_args(parser, args)
    files = [word for word in words if "=" not in word and "://" not in word]
    for file in files:
        # DIALS's parser leaves out a file that is missing, and images beside it.
        if not expand(file):
            raise Sorry(
                f"there is no file '{shorten(file)}', nor a parameter or option so "
                "named"
            )
    check_parameters(parser, args, files)
    try:
        for file in find_image_files(files):
            check_claims(file)
        return parser.parse_args(args=args, show_diff_phil=False)
    except Sorry as problem:
        raise Sorry(_without_tracebacks(str(problem))) from None
    except Exception as problem:  # whatever dxtbx or a file format may raise
        logging.getLogger("dials.cnn_screen").debug("not read", exc_info=True)
        raise Sorry(_name_unreadable(files, problem)) from None


def check_parameters(
    parser: ArgumentParser, args: list[str] | None, files: Iterable[str]
) -> None:
    """Sorry, in one line, where the parameters can't be; no image is opened.

    files: among the arguments; those of PHIL are named.
    """
    try:
        parser.parse_args(args=args, show_diff_phil=False, quick_parse=True)
    except Sorry as problem:
        raise Sorry(shorten(str(problem))) from None
    except Exception as problem:  # PHIL has a kind of error for each mistake
        phil = [file for file in files if file.endswith(".phil")]
        raise Sorry(": ".join([*phil, one_line(problem)])) from None


def _without_tracebacks(message: str) -> str:
    """One line of what DIALS's parser says; of a traceback, its last line."""
    kept: list[str] = []
    for _, block in itertools.groupby(
        message.splitlines(), lambda line: line.startswith("    ")
    ):
        lines = list(block)
        kept += lines[-1:] if lines[0].strip().startswith("Traceback") else lines
    return re.sub(
        r"(UnicodeDecodeError|json\.decoder\.JSONDecodeError): .*",
        "it is neither an image that dxtbx can read nor an experiment list",
        " ".join(" ".join(kept).split()),
    )


def _name_unreadable(files: list[str], problem: Exception) -> str:
    """The first of the files that can't be read, or some of all, and why."""
    for file, error in find_unreadable(find_image_files(files)).items():
        return f"{file} can't be read: {error}"
    return f"{shorten(' '.join(files))} can't be read: {one_line(problem)}"
