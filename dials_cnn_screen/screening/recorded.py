"""A run with its record, from its first image to its last or to where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os.path import abspath, isfile

from dxtbx.model import ExperimentList

from dials_cnn_screen.images.stills import Still, digest_geometry
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.parameters import Parameters
from dials_cnn_screen.screening.progress import follow
from dials_cnn_screen.screening.recurring import Recurring
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    ScreeningResults,
    decide,
)
from dials_cnn_screen.screening.run_record import RunIdentity, RunRecord
from dials_cnn_screen.screening.stream import stream_results
from dials_cnn_screen.util.interrupts import Interrupted, interruptible
from dials_cnn_screen.util.mpi import mpi_world


@contextlib.contextmanager
def pointing_to_record(record: str | None) -> Iterator[None]:
    """In here an error says where the results are, and how to go on.

    record: File of the record; None without.

    Raises:
        ValueError: In place of ValueError and OSError, where there is such a file.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if record is None or not isfile(record):
            raise
        raise ValueError(
            f"{error}; all results are in {record}, and resume=True writes the outputs"
        ) from error


@dataclass(frozen=True, eq=False)
class Run:
    """What a run is of.

    Attributes:
        stills: Images, in the order of the input.
        unreadable: Files of the input that can't be read, and why; they come last.
        geometry: Of digest_geometry.
        model, decision: That classify the images.
    """

    stills: Sequence[Still]
    unreadable: dict[str, str]
    geometry: str
    model: Model
    decision: Decision

    @classmethod
    def of(
        cls,
        experiments: ExperimentList,
        stills: Sequence[Still],
        unreadable: dict[str, str],
        model: Model,
        decision: Decision,
    ) -> Run:
        """That of experiments and their stills."""
        geometry = digest_geometry(experiments)
        return cls(stills, unreadable, geometry, model, decision)

    def names(self) -> list[ImageName]:
        """Of all images; a file that can't be read is one image."""
        files = [ImageName(abspath(file)) for file in self.unreadable]
        return [still.name for still in self.stills] + files


@dataclass(frozen=True, eq=False)
class Screened:
    """What came of a run.

    Attributes:
        run: That it is of.
        done: The results by the images' places in the input.
        n_before: How many are those of a run that was resumed.
        stopped: Why the run ended before its last image, if it did.
        has_record: Whether it can be resumed.
        recurring: What recurs, for each detector; empty where that was not sought.
    """

    run: Run
    done: dict[int, ImageResult]
    n_before: int = 0
    stopped: Interrupted | ChildProcessError | None = None
    has_record: bool = True
    recurring: Sequence[Recurring] = ()
    results: ScreeningResults = field(init=False)

    def __post_init__(self) -> None:
        images = [self.done[place] for place in sorted(self.done)]
        left = len(self.run.names()) - len(images)
        summary = ModelSummary.of(self.run.model)
        results = ScreeningResults(
            summary, self.run.decision, images, left, self.recurring
        )
        object.__setattr__(self, "results", results)

    @property
    def stills(self) -> list[Still]:
        """The stills that were reached, in the order of the results."""
        stills = self.run.stills
        return [stills[place] for place in sorted(self.done) if place < len(stills)]

    def chosen(self, kept: bool) -> list[bool]:
        """Which stills of the run are kept, or not; those not reached are neither."""
        places = range(len(self.run.stills))
        return [p in self.done and self.done[p].kept == kept for p in places]

    def stop_error(self) -> Exception | Interrupted | None:
        """What tells the user that the run was stopped, and what to do; None if not."""
        if self.stopped is None:
            return None
        n = len(self.done)
        told = f"{n} of {n + self.results.not_reached} images are done and written"
        if self.recurring and not self.results.not_reached:
            told += "; spots that recur are not left out"
        if self.has_record:
            told += "; resume=True goes on with the others"
        if isinstance(self.stopped, Interrupted):
            by = "Ctrl-C" if self.stopped.signal.name == "SIGINT" else "SIGTERM"
            return Interrupted(self.stopped.signal, f"stopped by {by}: {told}")
        return ChildProcessError(f"{self.stopped}; {told}")


def screen_recorded(
    run: Run, params: Parameters, reads: bool = True
) -> Screened | None:
    """Screen a run: each result goes to the record as it comes.

    Args:
        run: What is screened.
        params: Of the program.
        reads: Whether this MPI rank can read the images.

    Returns:
        What came of it; None on MPI ranks but the first.

    Raises:
        ValueError: The record is that of another run; another rank has other images.
        OSError: The record can't be written.
    """
    run_it = (run.stills, run.model, run.decision, params.device, params.mp)
    if params.mp.method == "mpi" and mpi_world().rank:
        for _ in stream_results(*run_it, reads=reads):
            pass
        return None
    names, summary = run.names(), ModelSummary.of(run.model)
    identity = RunIdentity.of(summary, run.decision, names, run.geometry)
    output = params.output
    record = RunRecord(output.record, identity, params.resume, output.lines)
    with contextlib.closing(record):
        n_before, stopped = len(record.done), None
        todo = [i for i in range(len(run.stills)) if i not in record.done]
        results = stream_results(*run_it, todo=todo, reads=reads)
        before = list(record.done.values())
        try:
            with interruptible():
                for place, result in follow(results, len(run.stills), before):
                    record.add(place, result)
        except (Interrupted, ChildProcessError) as error:
            stopped = error
        for place, why in enumerate(run.unreadable.values(), len(run.stills)):
            error_text = f"the file can't be read: {why}"
            record.add(place, decide(names[place], None, error_text, run.decision))
    return Screened(run, record.done, n_before, stopped, output.record is not None)
