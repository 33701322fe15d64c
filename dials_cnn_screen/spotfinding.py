"""The spots that dials.find_spots finds on a still, to compare networks with.

DIALS's own code is run, in this process and on one core, on experiments as dxtbx reads
them. Ke et al. (2018) took a still for a hit where it found many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dials.algorithms.shoebox import MaskCode
from dials.array_family import flex
from dials.command_line.find_spots import phil_scope
from dxtbx import flumpy
from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.phil import parse


@dataclass(frozen=True)
class SpotFinding:
    """Parameters of dials.find_spots, by default its own, and a cut in spots.

    algorithm: dispersion, or its successor dispersion_extended. gain: ADU a photon;
    None takes it from the image. global_threshold: ADU, below which no pixel is strong.
    sigma_strong: sd of a strong pixel above its surroundings. sigma_background: sd of
    their variance above that of background alone. min_spot_size: pixels; None is 3 on
    pixel array detectors and 6 on others. min_spots: a still is a hit with so many
    spots or more; None where nobody has chosen a cut.
    """

    algorithm: str = "dispersion_extended"
    gain: float | None = None
    global_threshold: float = 0
    sigma_strong: float = 3
    sigma_background: float = 6
    min_spot_size: int | None = None
    min_spots: int | None = None


def _table_2(
    gain: float,
    global_threshold: float,
    sigma_strong: float,
    min_spot_size: int,
    min_spots: int,
) -> SpotFinding:
    return SpotFinding(
        algorithm="dispersion",
        gain=gain,
        global_threshold=global_threshold,
        sigma_strong=sigma_strong,
        min_spot_size=min_spot_size,
        min_spots=min_spots,
    )


# DIALS's own, and those chosen by eye for each experiment of Ke et al. (2018): Table 2,
# with the cuts of Fig. 7. The algorithm was DIALS's default then.
PRESETS = {
    "default": SpotFinding(),
    "L498": _table_2(4.55, 100, 6, 3, min_spots=30),
    "LG36": _table_2(15.64, 100, 3, 2, min_spots=20),
    "LN84": _table_2(0.31, 200, 3, 3, min_spots=30),
    "LN83": _table_2(0.27, 200, 3, 3, min_spots=15),
    "LO19": _table_2(0.19, 200, 3, 3, min_spots=50),
}


def preset(name: str) -> SpotFinding:
    """The parameters of that name; ValueError where there are none."""
    if name not in PRESETS:
        raise ValueError(
            f"no spot-finding parameters '{name}'; choose one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]


def open_stills(path: str | Path) -> ExperimentList:
    """The stills of an image file, one experiment each, as dials.import has them.

    Raises ValueError where dxtbx cannot read the file.
    """
    stills = ExperimentListFactory.from_filenames([str(path)])
    if not stills:
        raise ValueError(
            f"dxtbx cannot read {path}; files of CXIDB-76 need dials_cnn_screen "
            "installed: make setup"
        )
    return stills


def count_spots(
    still: ExperimentList,
    finding: SpotFinding,
    mask: Sequence[np.ndarray] | None = None,
) -> int | None:
    """Number of spots of one still; None where dials.find_spots gives up.

    Arguments and errors as in spot_areas.
    """
    areas = spot_areas(still, finding, mask)
    return None if areas is None else len(areas)


def spot_areas(
    still: ExperimentList,
    finding: SpotFinding,
    mask: Sequence[np.ndarray] | None = None,
) -> np.ndarray | None:
    """Strong pixels in each spot of one still, int (n,).

    mask: bool (slow, fast) for each panel, True = use, beside what dxtbx masks.

    None where over a quarter of the pixels is strong. dials.find_spots ends there with
    an error, and dials.stills_process leaves the image out: either way such an image
    has no spots, and is no hit.

    Raises ValueError where there is not one image, or the mask is not of its shape.
    """
    n_images = sum(len(experiment.imageset) for experiment in still)
    if n_images != 1:
        raise ValueError(f"spots are of one image, not {n_images}; choose one of them")
    params = _phil(finding)
    params.spotfinder.lookup.mask = _lookup(mask, still)
    try:
        spots = flex.reflection_table.from_observations(still, params)
    except RuntimeError as error:
        if "number of strong pixels" not in str(error):
            raise
        return None
    strong = MaskCode.Foreground | MaskCode.Valid
    return flumpy.to_numpy(spots["shoebox"].count_mask_values(strong))


def _phil(finding: SpotFinding) -> object:
    """The parameters as DIALS has them: made anew, as spot finding changes them."""
    size = "Auto" if finding.min_spot_size is None else finding.min_spot_size
    chosen = f"""
        spotfinder {{
          filter.min_spot_size = {size}
          threshold {{
            algorithm = {finding.algorithm}
            dispersion {{
              gain = {finding.gain}
              global_threshold = {finding.global_threshold}
              sigma_strong = {finding.sigma_strong}
              sigma_background = {finding.sigma_background}
            }}
          }}
        }}
        """
    return phil_scope.fetch(source=parse(chosen)).extract()


def _lookup(
    mask: Sequence[np.ndarray] | None, still: ExperimentList
) -> tuple[flex.bool, ...] | None:
    if mask is None:
        return None
    shapes = [part.shape for part in mask]
    panels = [panel.get_image_size()[::-1] for panel in still[0].detector]
    if shapes != panels:
        raise ValueError(
            f"the mask has panels of {shapes} pixels (slow, fast), the image of "
            f"{panels}; give one array for each panel"
        )
    return tuple(flumpy.from_numpy(np.ascontiguousarray(part)) for part in mask)
