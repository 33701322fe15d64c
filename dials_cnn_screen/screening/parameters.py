"""The parameters of dials.cnn_screen as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dials_cnn_screen.images.selection import Selection
from dials_cnn_screen.screening.calibration import DecisionRule, OwnLabels
from dials_cnn_screen.screening.eye import EyeRule
from dials_cnn_screen.util.workers import Processes


@dataclass(frozen=True)
class Output:
    """The parameters of output: names of files, None switches one off.

    lines may be "-", the standard output.
    """

    experiments: str | None
    rejected: str | None
    strong: str | None
    hdf5: str | None
    events: str | None
    image_list: str | None
    scores: str | None
    record: str | None
    lines: str | None
    html: str | None
    recurring_mask: str | None
    log: str | None

    @property
    def geometry(self) -> str | None:
        """CrystFEL's geometry of the HDF5 file of hits, beside it."""
        return None if self.hdf5 is None else str(Path(self.hdf5).with_suffix(".geom"))

    @property
    def files(self) -> list[str | None]:
        """All files that are written."""
        files = [*vars(self).values(), self.geometry]
        return [path for path in files if path != "-"]


@dataclass(frozen=True)
class Parameters:
    """The parameters of dials.cnn_screen."""

    model: str | None
    device: str
    mp: Processes
    decision: DecisionRule
    calibration: OwnLabels
    eye: EyeRule
    select: Selection
    mask: str | None
    convert_sequences_to_stills: bool
    recurring: str | None
    resume: bool
    output: Output

    @property
    def leaves_out(self) -> bool:
        """Whether recurring spots are left out, in a second pass."""
        return self.recurring in ("exclude", "exclude_all")
