"""The spots that dials.find_spots finds on a still, to compare models with.

DIALS's own code runs, on one core, on experiments as dxtbx reads them. Ke et al. (2018)
took a still for a hit where it found many.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dials.algorithms.shoebox import MaskCode
from dials.algorithms.spot_finding import factory
from dials.array_family import flex
from dials.command_line.find_spots import phil_scope
from dxtbx import flumpy
from dxtbx.model import ExperimentList
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.phil import parse, scope
from numpy.typing import NDArray

from dials_cnn_screen.images.stills import Still, experiment_of_still
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.workers import map_on_workers


@dataclass(frozen=True)
class SpotFinding:
    """Parameters of dials.find_spots, by default its own, and a cut in spots.

    Attributes:
        algorithm: dispersion, or its successor dispersion_extended.
        gain: ADU per photon; None takes it from the image.
        global_threshold: ADU, below which no pixel is strong.
        sigma_strong: Standard deviations of a strong pixel above its surroundings.
        sigma_background: Those of their variance above that of background alone.
        min_spot_size: Pixels; None is 3 on pixel array detectors and 6 on others.
        min_spots: A still is a hit with so many spots or more; None where nobody has
            chosen a cut.
        changes: Any parameters of dials.find_spots, in PHIL form, that override the
            others.
    """

    algorithm: str = "dispersion_extended"
    gain: float | None = None
    global_threshold: float = 0
    sigma_strong: float = 3
    sigma_background: float = 6
    min_spot_size: int | None = None
    min_spots: int | None = None
    changes: str = ""


@dataclass(frozen=True)
class SpotResult:
    """What dials.find_spots found on one still.

    Attributes:
        n_spots: None where it gave up, or failed.
        error: Why it failed; None where it did not.
        seconds: Spent on reading, and on finding spots.
    """

    n_spots: int | None
    error: str | None
    seconds: tuple[float, float]


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


# DIALS's own, and those that Ke et al. (2018) chose by eye for each experiment: Table
# 2, with the cuts of Fig. 7. The algorithm was DIALS's default then.
PRESETS = {
    "default": SpotFinding(),
    "L498": _table_2(4.55, 100, 6, 3, min_spots=30),
    "LG36": _table_2(15.64, 100, 3, 2, min_spots=20),
    "LN84": _table_2(0.31, 200, 3, 3, min_spots=30),
    "LN83": _table_2(0.27, 200, 3, 3, min_spots=15),
    "LO19": _table_2(0.19, 200, 3, 3, min_spots=50),
}


def expert_scope() -> scope:
    """DIALS's parameters of spot finding, hidden from the help at expert level 0."""
    copy = factory.phil_scope.fetch()
    for part in copy.objects:
        part.expert_level = 1
    return copy


def preset(name: str) -> SpotFinding:
    """The parameters of that name; ValueError where there are none."""
    if name not in PRESETS:
        raise ValueError(
            f"no spot-finding parameters '{name}'; choose one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]


def as_phil(finding: SpotFinding) -> str:
    """The parameters but for the changes, in the PHIL form of dials.find_spots."""
    size = "Auto" if finding.min_spot_size is None else finding.min_spot_size
    return f"""
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


def format_changes(finding: SpotFinding) -> str:
    """The parameters that are not DIALS's own, the changes included, in PHIL form."""
    return phil_scope.fetch_diff(source=_scope(finding)).as_str()


def open_stills(path: str | Path) -> ExperimentList:
    """The stills of an image file, one experiment each, as dials.import has them.

    Raises:
        ValueError: dxtbx can't read the file.
    """
    stills = ExperimentListFactory.from_filenames([str(path)])
    if not stills:
        raise ValueError(
            f"dxtbx can't read {path}; files of CXIDB-76 need dials_cnn_screen "
            "installed: make setup"
        )
    return stills


class SpotFinder(NamedTuple):
    """What each process has: experiments, and how spots are found on their stills."""

    experiments: ExperimentList
    finding: SpotFinding


def find_on_stills(
    experiments: ExperimentList,
    stills: Sequence[Still],
    finding: SpotFinding,
    nproc: int,
) -> Iterator[SpotResult]:
    """What dials.find_spots finds on stills of the experiments, in order.

    Close the iterator to stop before the end. Raises ChildProcessError if one of the
    nproc processes dies.
    """
    return map_on_workers(
        find_on_still, stills, nproc, SpotFinder, (experiments, finding)
    )


def find_on_still(finder: SpotFinder, still: Still) -> SpotResult:
    """Spots of one still; an error becomes part of the result."""
    clock = [time.perf_counter()]
    n_spots, error = None, None
    try:
        alone = experiment_of_still(finder.experiments, still)
        alone[0].imageset.get_raw_data(0)  # read once; it is kept
        clock.append(time.perf_counter())
        with _without_messages():
            n_spots = count_spots(alone, finder.finding)
        alone[0].imageset.clear_cache()
    except Exception as problem:  # whatever dxtbx, DIALS or a file format may raise
        error = one_line(problem)
    clock += [time.perf_counter()] * (3 - len(clock))
    reading, finding = np.diff(clock).tolist()
    return SpotResult(n_spots, error, (reading, finding))


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Silence the twenty or so lines that DIALS logs for each still."""
    logger = logging.getLogger("dials")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def count_in_table(
    path: str | Path, experiments: ExperimentList, stills: Sequence[Still]
) -> NDArray[np.int64]:
    """Number of spots of each still in a strong.refl of dials.find_spots.

    Args:
        path: The strong.refl.
        experiments: That dials.find_spots had.
        stills: All n of the experiments.

    Returns:
        (n,), in the order of the stills.

    Raises:
        ValueError: The file is not a reflection table, or one of other images.
    """
    try:
        # Not from_file, which would run the code in a pickle.
        table = flex.reflection_table.from_msgpack_file(str(path))
        experiment_of, z = table["id"], table["xyzobs.px.value"].parts()[2]
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"'{path}' is not a strong.refl of dials.find_spots ({error})"
        ) from error
    known = dict(table.experiment_identifiers())
    of_others = any(
        number >= len(experiments)
        or experiments[number].identifier not in ("", identifier)
        for number, identifier in known.items()
    )
    counts = np.zeros(len(stills), dtype=int)
    places = _places(stills)
    numbers = flumpy.to_numpy(experiment_of)
    for number, index in zip(numbers, flumpy.to_numpy(z).astype(int), strict=True):
        still = places.get((number, None), places.get((number, index)))
        if of_others or still is None:
            raise ValueError(
                f"'{path}' has spots of other images; give the .expt that "
                "dials.find_spots had"
            )
        counts[still] += 1
    return counts


def _places(stills: Sequence[Still]) -> dict[tuple[int, int | None], int]:
    """Which still is that of an experiment, or of an image of one that has several."""
    of_experiment: dict[int, list[int]] = {}
    for i, still in enumerate(stills):
        for number in still.experiments:
            of_experiment.setdefault(number, []).append(i)
    places = {}
    for number, members in of_experiment.items():
        for i in members:
            index = stills[i].imageset.indices()[stills[i].position]
            places[number, None if len(members) == 1 else index] = i
    return places


def count_spots(
    still: ExperimentList,
    finding: SpotFinding,
    mask: Sequence[NDArray[np.bool_]] | None = None,
) -> int | None:
    """Number of spots of one still; None where dials.find_spots gives up.

    Arguments and errors are those of spot_areas.
    """
    areas = spot_areas(still, finding, mask)
    return None if areas is None else len(areas)


def spot_areas(
    still: ExperimentList,
    finding: SpotFinding,
    mask: Sequence[NDArray[np.bool_]] | None = None,
) -> NDArray[np.int64] | None:
    """Number of strong pixels in each spot of one still.

    Args:
        still: An experiment of one image.
        finding: The parameters.
        mask: (slow, fast) for each panel, True = use, beside what dxtbx masks.

    Returns:
        (n,); None where over a quarter of the pixels is strong. dials.find_spots ends
        there with an error, and dials.stills_process leaves the image out: either way
        such an image has no spots, and is no hit.

    Raises:
        ValueError: There is not one image, or the mask is not of its shape.
    """
    n_images = sum(len(experiment.imageset) for experiment in still)
    if n_images != 1:
        raise ValueError(
            f"spots are counted on one image, not {n_images}; choose one of them"
        )
    # Made anew, as spot finding changes them.
    params = _scope(finding).extract()
    if mask is not None:
        params.spotfinder.lookup.mask = _lookup(mask, still)
    try:
        spots = flex.reflection_table.from_observations(still, params)
    except RuntimeError as error:
        if "number of strong pixels" not in str(error):
            raise
        return None
    strong = MaskCode.Foreground | MaskCode.Valid
    return flumpy.to_numpy(spots["shoebox"].count_mask_values(strong))


def _scope(finding: SpotFinding) -> scope:
    sources = [parse(as_phil(finding)), parse(finding.changes)]
    return phil_scope.fetch(sources=sources)


def _lookup(
    mask: Sequence[NDArray[np.bool_]], still: ExperimentList
) -> tuple[flex.bool, ...]:
    shapes = [part.shape for part in mask]
    panels = [panel.get_image_size()[::-1] for panel in still[0].detector]
    if shapes != panels:
        raise ValueError(
            f"the mask has panels of {shapes} pixels (slow, fast), the image of "
            f"{panels}; give one array for each panel"
        )
    return tuple(flumpy.from_numpy(np.ascontiguousarray(part)) for part in mask)
