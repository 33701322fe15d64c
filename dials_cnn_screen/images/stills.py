"""The stills of an experiment list: each image once, and lists of the kept ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dxtbx.imageset import ImageSequence, ImageSet
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
                f"{imageset.get_path(0)} is a rotation scan; to screen its images as "
                "stills import it with dials.import convert_sequences_to_stills=True"
            )
        for position in _positions(experiment):
            path, frame = find_image(imageset, position)
            if (path, frame) in stills:
                stills[path, frame].experiments.append(number)
            else:
                file = Path(path).name
                still = Still(imageset, position, file, frame, [number])
                stills[path, frame] = still
    return list(stills.values())


def find_image(imageset: ImageSet, position: int) -> tuple[str, int]:
    """File of the image at a position of an imageset, and its number there, from 1."""
    in_one_file = imageset.reader().is_single_file_reader()
    index = imageset.indices()[position]
    return imageset.get_path(position), index + 1 if in_one_file else 1


def select_experiments(
    experiments: ExperimentList, stills: list[Still], chosen: list[bool]
) -> ExperimentList:
    """The experiments of the chosen stills, with their models as they are.

    Each has the image that it is of, and no other, so that no program looks at images
    that were not chosen. An experiment of several images becomes one for each.
    """
    if all(chosen):
        return experiments
    parts: dict[int, list[tuple[int, ImageSet]]] = {}
    for still, wanted in zip(stills, chosen, strict=True):
        if wanted:
            imageset = _one_image(still.imageset, still.position)
            for number in still.experiments:
                parts.setdefault(number, []).append((still.position, imageset))
    selected = ExperimentList()
    for number in sorted(parts):
        for position, imageset in sorted(parts[number], key=lambda part: part[0]):
            selected.append(_of_one_image(experiments[number], position, imageset))
    return selected


def alone_in_list(experiments: ExperimentList, still: Still) -> ExperimentList:
    """A list of one experiment, the first one of this still, and of no other image."""
    imageset = _one_image(still.imageset, still.position)
    experiment = experiments[still.experiments[0]]
    return ExperimentList([_of_one_image(experiment, still.position, imageset)])


def _positions(experiment: Experiment) -> range:
    """Where in its imageset the images of an experiment are.

    The experiments of a sequence of stills have the whole sequence as imageset, and
    each a scan of one image.
    """
    imageset, scan = experiment.imageset, experiment.scan
    if scan is None or not isinstance(imageset, ImageSequence):
        return range(len(imageset))
    first = scan.get_array_range()[0] - imageset.get_array_range()[0]
    return range(first, first + scan.get_num_images())


def _one_image(imageset: ImageSet, position: int) -> ImageSet:
    """An imageset of the one image at a position."""
    if len(imageset) == 1:
        return imageset
    if not isinstance(imageset, ImageSequence):
        return imageset[position : position + 1]
    # As ImageSequence[position : position + 1], which older versions of dxtbx count by
    # batch, newer ones from 0.
    reader, paths = imageset.reader(), imageset.reader().paths()
    number = (1,) if imageset.data().has_single_file_reader() else ()
    return imageset.partial_set(reader.copy(paths, *number), position, position + 1)


def _of_one_image(
    experiment: Experiment, position: int, imageset: ImageSet
) -> Experiment:
    """An experiment with the imageset of one of its images in place of its own."""
    identifier, scan = experiment.identifier, experiment.scan
    positions = _positions(experiment)
    if len(positions) > 1:
        identifier = f"{identifier}-{position}" if identifier else ""
        if scan:
            first = position - positions[0]
            scan = scan[first : first + 1]
    return Experiment(
        identifier=identifier,
        beam=experiment.beam,
        detector=experiment.detector,
        goniometer=experiment.goniometer,
        scan=scan,
        crystal=experiment.crystal,
        imageset=imageset,
        profile=experiment.profile,
        scaling_model=experiment.scaling_model,
    )
