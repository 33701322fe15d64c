"""The parameters of dials.cnn_live as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from dials_cnn_screen.screening.calibration import DecisionRule, OwnLabels
from dials_cnn_screen.screening.eye import EyeRule
from dials_cnn_screen.util.workers import Processes


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off.

    lines may be "-", the standard output. every is a time in seconds.
    """

    html: str | None
    status: str | None
    every: float
    record: str | None
    lines: str | None
    experiments: str | None
    image_list: str | None
    scores: str | None
    log: str | None

    @property
    def files(self) -> list[str | None]:
        """All files that are written."""
        return [v for k, v in vars(self).items() if k != "every" and v != "-"]


@dataclass(frozen=True)
class Stream:
    """The parameters of stream; queue is in GB."""

    when_full: str
    queue: float
    listen: bool
    allow_remote: bool


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_live."""

    model: str | None
    device: str
    mp: Processes
    decision: DecisionRule
    calibration: OwnLabels
    eye: EyeRule
    mask: str | None
    reference_geometry: str | None
    idle_time: float | None
    stream: Stream
    resume: bool
    output: Output
