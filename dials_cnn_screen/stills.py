"""The stills of an experiment list: each image once, and lists of the kept ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dxtbx.imageset import ImageSet
from dxtbx.model import Experiment, ExperimentList


@dataclass
class Still:
    """One image, whatever number of experiments (lattices) refer to it.

    position: its index in imageset. file: name of its file. frame: number in the file,
    from 1. experiments: indices of the experiments that have it.
    """

    imageset: ImageSet
    position: int
    file: str
    frame: int
    experiments: list[int]


def list_stills(experiments: ExperimentList) -> list[Still]:
    """Every image of the experiments once, in order.

    Raises ValueError where an experiment is not of stills or has no images.
    """
    stills: dict[tuple[str, int], Still] = {}
    for number, experiment in enumerate(experiments):
        imageset = experiment.imageset
        if imageset is None:
            raise ValueError(f"experiment {number} has no images; import them again")
        if not experiment.is_still():
            raise ValueError(
                f"{_first_path(imageset)} is a rotation scan; to screen its images as "
                "stills import it with convert_sequences_to_stills=True"
            )
        in_one_file = imageset.reader().is_single_file_reader()
        for position, index in enumerate(imageset.indices()):
            path = imageset.get_path(position)
            frame = index + 1 if in_one_file else 1
            if (path, frame) in stills:
                stills[path, frame].experiments.append(number)
            else:
                file = Path(path).name
                still = Still(imageset, position, file, frame, [number])
                stills[path, frame] = still
    return list(stills.values())


def select_experiments(
    experiments: ExperimentList, stills: list[Still], chosen: list[bool]
) -> ExperimentList:
    """The experiments of the chosen stills, with their models as they are.

    An experiment of several images of which some are chosen becomes one for each.
    """
    positions: dict[int, list[int]] = {}
    for still, wanted in zip(stills, chosen, strict=True):
        if wanted:
            for number in still.experiments:
                positions.setdefault(number, []).append(still.position)
    selected = ExperimentList()
    for number, wanted in sorted(positions.items()):
        experiment = experiments[number]
        if len(wanted) == len(experiment.imageset):
            selected.append(experiment)
        else:
            selected.extend(
                ExperimentList([_one_image(experiment, p) for p in sorted(wanted)])
            )
    return selected


def _one_image(experiment: Experiment, position: int) -> Experiment:
    part = slice(position, position + 1)
    imageset = experiment.imageset[part]
    return Experiment(
        identifier=f"{experiment.identifier}-{position}" * bool(experiment.identifier),
        beam=experiment.beam,
        detector=experiment.detector,
        goniometer=experiment.goniometer,
        scan=experiment.scan[part] if experiment.scan else None,
        crystal=experiment.crystal,
        imageset=imageset,
    )


def _first_path(imageset: ImageSet) -> str:
    return imageset.get_path(0)
