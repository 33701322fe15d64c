"""The parameters of dials.cnn_screen as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from dials_cnn_screen.images.selection import Selection
from dials_cnn_screen.screening.calibration import DecisionRule, OwnLabels
from dials_cnn_screen.util.workers import Processes


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off.

    lines may be "-", the standard output.
    """

    experiments: str | None
    rejected: str | None
    scores: str | None
    record: str | None
    lines: str | None
    html: str | None
    log: str | None


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_screen."""

    model: str | None
    device: str
    mp: Processes
    decision: DecisionRule
    calibration: OwnLabels
    select: Selection
    mask: str | None
    convert_sequences_to_stills: bool
    resume: bool
    output: Output

    @property
    def files(self) -> list[str]:
        """The files that are written."""
        written = [path for path in vars(self.output).values() if path is not None]
        return [path for path in written if path != "-"]
