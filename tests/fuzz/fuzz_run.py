"""Damaged inputs of every kind, and what the programs make of them; run by hand.

    python3 tests/fuzz/fuzz_run.py 2000 --seed 0 [--first 0] [--keep FOLDER]

Each case is a program with one input damaged, often beside intact ones, in a process
and a folder of its own, with limits to time, memory and the size of files. It has to
succeed, or end with one line. Nothing is lost: an image that can be named is in the
scores with a class or an error. Nothing is half-written: the outputs are all new or
all old, and no temporary file is left.

A case is drawn from its seed and number alone: --first 417 with 1 repeats that one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fuzz_inputs as inputs
import numpy as np
from fuzz_cases import (
    GOOD,
    MODEL,
    N_GOOD,
    NO_REPORT,
    PREPARED,
    PROGRAMS,
    Case,
    draw_case,
)
from numpy.random import Generator

# Limits of a case: seconds of work, and of waiting, bytes of memory above what the
# parent has, and of a file. By hand: an intact case takes a second or two, and the
# 30,000 small images that a damaged file may claim take 80 s.
CPU_SECONDS = 150
WALL_SECONDS = 600
MEMORY = 4 * 2**30
FILE_SIZE = 2**28
LONGEST_LINE = 1500  # characters of what a user is told

OLD = "older"  # content of the outputs of an earlier run
OUTPUTS = ("hits.expt", "cnn_screen.json", "cnn_screen.html")


@dataclass
class Outcome:
    """What became of a case.

    Attributes:
        what: The kind of input.
        kind: success, one line, or a fault: traceback, crash, hang, ...
        detail: The line, or what is wrong.
    """

    what: str
    kind: str
    detail: str = ""
    faults: list[str] = field(default_factory=list)


def prepare() -> None:
    """Run the program once, so that all is imported and compiled before the forks."""
    PREPARED.mkdir(exist_ok=True)
    import dials_cnn_screen.models

    (folder,) = dials_cnn_screen.models.__path__
    shutil.copy(Path(folder) / "default.safetensors", MODEL)
    before = os.getcwd()
    os.chdir(PREPARED)
    inputs.write_cxidb76(Path(GOOD))
    for other in ("sklearn.manifold", "matplotlib.backends.backend_svg"):
        importlib.import_module(other)
    with contextlib.redirect_stdout(io.StringIO()):
        PROGRAMS["cnn_screen"].run([GOOD, "mp.nproc=1", "output.log=None"])
    os.chdir(before)


def run_case(seed: int, number: int, keep: Path | None = None) -> Outcome:
    """One case in a process and a folder of its own, and what became of it.

    keep: where the folder of a case with a fault goes.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{number}_"))
    child = os.fork()
    if not child:
        _run_here(folder, np.random.default_rng([seed, number]))
    status = _wait(child)
    outcome = _look(folder, status)
    if outcome.faults and keep is not None:
        shutil.move(folder, keep / str(number))
    else:
        shutil.rmtree(folder)
    return outcome


def _run_here(folder: Path, rng: Generator) -> None:
    """Run a case, and end this process."""
    os.chdir(folder)
    result: dict[str, object] = {}
    try:
        output = os.open("output", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        case = draw_case(rng)
        for name in OUTPUTS:
            Path(name).write_text(OLD)
        Path("case.json").write_text(json.dumps(vars(case)))
        _limit()
        result = _call(case)
    except BaseException:  # of the fuzz itself, or where memory ran out
        result = {"kind": "traceback", "detail": traceback.format_exc()}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        Path("result.json").write_text(json.dumps(result))
        sys.stdout.flush()
        os._exit(0)


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))


def _call(case: Case) -> dict[str, object]:
    """What the program's run comes to; args need no process but this one."""
    from dials.util import Sorry

    try:
        PROGRAMS[case.program].run([*case.args, "mp.nproc=1"])
    except Sorry as problem:
        return {"kind": "one line", "detail": str(problem)}
    except SystemExit as problem:
        # Newer versions of DIALS turn Sorry into an exit whose message is the line.
        text = str(problem.code)
        kind = "success" if problem.code in (0, None) else "one line"
        return {"kind": kind, "detail": text.removeprefix("Sorry: ")}
    except BaseException:
        return {"kind": "traceback", "detail": traceback.format_exc()}
    return {"kind": "success", "detail": ""}


def _wait(child: int) -> int | None:
    """The status that a process ends with; None for one that has to be killed."""
    deadline = time.monotonic() + WALL_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _look(folder: Path, status: int | None) -> Outcome:
    """What a case has left behind, and what is wrong with it."""
    file = folder / "case.json"
    case = Case(**json.loads(file.read_text())) if file.exists() else None
    what = case.what if case else "the fuzz itself"
    if status is None:
        return Outcome(what, "hang", "", ["it takes too long"])
    if os.WIFSIGNALED(status) or not (folder / "result.json").exists():
        name = signal.Signals(os.WTERMSIG(status)).name
        kind = "hang" if name in ("SIGXCPU", "SIGKILL") else "crash"
        return Outcome(what, kind, name, [f"it ends with {name}"])
    result = json.loads((folder / "result.json").read_text())
    outcome = Outcome(what, result["kind"], result["detail"])
    if outcome.kind == "traceback":
        outcome.faults.append(outcome.detail)
        return outcome
    if outcome.kind == "one line":
        line = outcome.detail
        if "\n" in line or not line.strip() or len(line) > LONGEST_LINE:
            outcome.faults.append(f"not one line of bounded length: {line[:500]!r}")
    if "Traceback" in (folder / "output").read_text(errors="replace"):
        outcome.faults.append("it prints a traceback")
    if case is not None:
        outcome.faults += _look_at_outputs(folder, case, outcome)
    return outcome


def _look_at_outputs(folder: Path, case: Case, outcome: Outcome) -> list[str]:
    faults, kind = [], outcome.kind
    left = [path.name for path in folder.glob(".*")]
    if left:
        faults.append(f"it leaves {left}")
    if case.program == "cnn_stills_process":
        return faults + _look_at_veto(case, folder, outcome)
    if case.program != "cnn_screen" or "param" in case.what or "PHIL" in case.what:
        return faults  # parameters may rename or switch off outputs
    names = OUTPUTS[:2] if NO_REPORT in case.args else OUTPUTS
    contents = [(folder / name).read_text() for name in names]
    new = [content != OLD for content in contents]
    if any(new) != all(new):
        faults.append(f"some outputs are new and some old: {new}")
    if kind == "success" and not all(new):
        faults.append("it succeeds without outputs")
    if all(new):
        faults += _look_at_scores(contents, case, folder)
    return faults


def _look_at_veto(case: Case, folder: Path, outcome: Outcome) -> list[str]:
    """What is wrong with what the veto left: intact images are always processed."""
    text = (folder / "cnn_screen.json").read_text()
    if text == OLD:
        return ["it leaves no scores of the intact images"]
    faults = _look_at_scores(["{}", text], case, folder)
    if case.bad in outcome.detail:  # images of a file that can't be read are unknown
        faults = [fault for fault in faults if not fault.startswith("nothing is said")]
    return faults


def _look_at_scores(contents: Sequence[str], case: Case, folder: Path) -> list[str]:
    """What is wrong with new outputs: experiments, scores and report."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    faults = []
    try:
        json.loads(contents[0])
        images = json.loads(contents[1], parse_constant=refuse)["images"]
    except ValueError as error:
        return [f"an output is no JSON: {error}"]
    if len(contents) > 2 and not contents[2].rstrip().endswith("</html>"):
        faults.append("half a report")
    if any((image["class"] is None) != bool(image["error"]) for image in images):
        faults.append("an image has neither a class nor an error, or both")
    named = Counter(Path(image["path"]).name for image in images)
    if GOOD in case.args and named[GOOD] != N_GOOD:
        faults.append(f"{named[GOOD]} of the {N_GOOD} intact images are in the scores")
    good = [image for image in images if Path(image["path"]).name == GOOD]
    if case.bad and any(image["class"] is None for image in good):
        faults.append("an intact image is not classified")
    stem = None if case.bad is None else Path(case.bad).stem
    listed = ("listed", "list") if stem == "list" else (stem,)
    found = any(Path(name).stem in listed for name in named if name != GOOD)
    # An experiment list may name other files now.
    if stem and not found and (stem != "list" or len(named) == 1):
        faults.append(f"nothing is said of {case.bad}")
    return faults


def fuzz(
    n: int, seed: int = 0, first: int = 0, keep: Path | None = None
) -> list[Outcome]:
    """The outcomes of n cases; what is wrong is printed."""
    prepare()
    outcomes = []
    for number in range(first, first + n):
        outcome = run_case(seed, number, keep)
        outcomes.append(outcome)
        for fault in outcome.faults:
            print(f"case {number}, {outcome.what}: {fault}", flush=True)
    shutil.rmtree(PREPARED)
    return outcomes


def print_table(outcomes: Sequence[Outcome]) -> None:
    """How many cases of each kind of input came to what."""
    kinds = ("success", "one line", "traceback", "crash", "hang")
    counts = Counter((o.what, o.kind) for o in outcomes)
    print(f"| damaged | {' | '.join(kinds)} | other faults |")
    print("|---" * (len(kinds) + 2) + "|")
    for what in sorted({o.what for o in outcomes}):
        row = " | ".join(str(counts[what, kind]) for kind in kinds)
        others = sum(
            bool(o.faults) and o.kind in ("success", "one line")
            for o in outcomes
            if o.what == what
        )
        print(f"| {what} | {row} | {others} |")


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, help="number of cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, help="folder for cases with faults")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    outcomes = fuzz(options.n, options.seed, options.first, options.keep)
    print_table(outcomes)
    bad = sum(bool(o.faults) for o in outcomes)
    print(f"{len(outcomes)} cases, {bad} with faults")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
