"""The parameters of dials.cnn_screen as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from dials_cnn_screen.screening.calibration import DecisionRule, OwnLabels
from dials_cnn_screen.screening.eye import EyeRule
from dials_cnn_screen.util.workers import Processes


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off."""

    experiments: str | None
    rejected: str | None
    scores: str | None
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
    eye: EyeRule
    output: Output
