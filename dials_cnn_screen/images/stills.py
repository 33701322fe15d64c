"""The stills of an experiment list, each image once, and imagesets of one of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from dxtbx.imageset import ImageSequence, ImageSet
from dxtbx.model import Experiment, ExperimentList

from dials_cnn_screen.labels.image_name import ImageName


@dataclass(frozen=True, eq=False, slots=True)
class Still:
    """One image, whatever number of experiments (lattices) refer to it.

    Attributes:
        imageset: What reads the image.
        position: Its index in the imageset, from 0.
        name: Its file, with folders, and its number there.
        experiments: Indices of the experiments that refer to it, in order.
    """

    imageset: ImageSet
    position: int
    name: ImageName
    experiments: list[int]


def list_stills(experiments: ExperimentList) -> list[Still]:
    """Every image of the experiments once, in order.

    Args:
        experiments: Of stills; imagesets, or sequences of stills.

    Raises:
        ValueError: There are no experiments, or one is not of stills or has no images.
    """
    if not len(experiments):
        raise ValueError("no images: give an .expt file from dials.import, or images")
    stills: dict[ImageName, Still] = {}
    for number, experiment in enumerate(experiments):
        imageset = experiment.imageset
        if imageset is None:
            raise ValueError(f"experiment {number} has no images; import them again")
        if not experiment.is_still():
            raise ValueError(
                f"{imageset.get_path(0)} is a rotation scan; to screen its images as "
                "stills import it with dials.import convert_sequences_to_stills=True"
            )
        for position in list_positions(experiment):
            name = name_image(imageset, position)
            if name in stills:
                stills[name].experiments.append(number)
            else:
                stills[name] = Still(imageset, position, name, [number])
    return list(stills.values())


def name_image(imageset: ImageSet, position: int) -> ImageName:
    """The name of the image at a position of an imageset.

    Its number is 1 unless the file has several images.
    """
    in_one_file = imageset.reader().is_single_file_reader()
    index = imageset.indices()[position]
    number = index + 1 if in_one_file else 1
    return ImageName(imageset.get_path(position), number)


def list_files(stills: Sequence[Still]) -> set[str]:
    """The files that stills are read from, and their masks."""
    masks = {still.imageset.external_lookup.mask.filename for still in stills}
    return {still.name.path for still in stills} | (masks - {""})


def digest_geometry(experiments: ExperimentList) -> str:
    """SHA-256 of the detector, the beam and the mask file of the first experiment.

    The others' are not looked at: each image of a run may have models of its own, and
    whoever changes a geometry changes all of them.
    """
    first = experiments[0]
    mask = first.imageset.external_lookup.mask.filename
    status = os.stat(mask) if mask and os.path.exists(mask) else None
    stamp = status and [status.st_size, status.st_mtime_ns]
    # A detector without panels is false.
    models = [m if m is None else m.to_dict() for m in (first.detector, first.beam)]
    text = json.dumps([models, mask, stamp], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def experiment_of_still(experiments: ExperimentList, still: Still) -> ExperimentList:
    """A list of one experiment: the first one of a still, with that image alone.

    Args:
        experiments: The list that the still was made from.
        still: Of list_stills(experiments).
    """
    imageset = one_image(still.imageset, still.position)
    experiment = experiments[still.experiments[0]]
    return ExperimentList([of_one_image(experiment, still.position, imageset)])


def list_positions(experiment: Experiment) -> range:
    """Positions of an experiment's images in its imageset.

    The experiments of a sequence of stills have the whole sequence as imageset, and
    each a scan of one image.
    """
    imageset, scan = experiment.imageset, experiment.scan
    if scan is None or not isinstance(imageset, ImageSequence):
        return range(len(imageset))
    first = scan.get_array_range()[0] - imageset.get_array_range()[0]
    return range(first, first + scan.get_num_images())


def one_image(imageset: ImageSet, position: int) -> ImageSet:
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


def of_one_image(
    experiment: Experiment, position: int, imageset: ImageSet
) -> Experiment:
    """An experiment with the imageset of one of its images in place of its own.

    Args:
        experiment: Of one image or more.
        position: The image's, in the experiment's imageset.
        imageset: Of this image alone, as one_image gives it.

    Returns:
        The same models. Where the experiment has more images, its identifier gets the
        position at the end, and its scan is that of the image.
    """
    identifier, scan = experiment.identifier, experiment.scan
    positions = list_positions(experiment)
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
