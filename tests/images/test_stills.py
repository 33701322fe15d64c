from __future__ import annotations

import pytest

pytest.importorskip("dials")

from dxtbx.imageset import ImageSequence, ImageSet, ImageSetData, MemReader
from dxtbx.model import (
    BeamFactory,
    Crystal,
    DetectorFactory,
    Experiment,
    ExperimentList,
    GoniometerFactory,
    ScanFactory,
)

from dials_cnn_screen.images.stills import (
    experiment_of_still,
    list_stills,
    name_image,
)
from dials_cnn_screen.labels.image_name import ImageName

BEAM = BeamFactory.simple(1.0)
DETECTOR = DetectorFactory.simple(
    "SENSOR_CCD", 100, (0.5, 0.5), "+x", "-y", (0.1, 0.1), (10, 10), (0, 100), []
)
GONIOMETER = GoniometerFactory.single_axis()


class Reader(MemReader):
    """Images that seem to come from a file each, or from one file."""

    def __init__(self, n_images: int, file: str | None = None) -> None:
        super().__init__([None] * n_images)
        self._file = file

    def copy(self, paths: list[str], n_images: int | None = None) -> Reader:
        return self

    def paths(self) -> list[str]:
        return [self._file or f"image_{i}.cbf" for i in range(len(self))]

    def master_path(self) -> str:
        return self._file or ""

    def is_single_file_reader(self) -> bool:
        return self._file is not None


def still_set(n_images: int, file: str | None = None) -> ImageSet:
    imageset = ImageSet(ImageSetData(Reader(n_images, file), None))
    for i in range(n_images):
        imageset.set_beam(BEAM, i)
        imageset.set_detector(DETECTOR, i)
    return imageset


def sequence(n_images: int, width: float, first: int = 1) -> ImageSequence:
    epochs = dict.fromkeys(range(n_images), 0.0)
    images = (first, first + n_images - 1)
    scan = ScanFactory.make_scan(images, 0.1, (0, width), epochs)
    data = ImageSetData(Reader(n_images), None)
    return ImageSequence(data, BEAM, DETECTOR, GONIOMETER, scan)


def experiment(imageset: ImageSet, **others: object) -> Experiment:
    return Experiment(beam=BEAM, detector=DETECTOR, imageset=imageset, **others)


def shared_sequence(first: int = 1) -> ExperimentList:
    """Three experiments of one sequence of three stills."""
    stills = sequence(3, 0.0, first)
    scan = stills.get_scan()
    return ExperimentList(
        [
            experiment(stills, scan=scan[i : i + 1], goniometer=GONIOMETER)
            for i in range(3)
        ]
    )


def test_an_image_of_several_experiments_is_listed_once():
    imageset = still_set(1)
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    experiments = ExperimentList([experiment(imageset, crystal=c) for c in crystals])
    (still,) = list_stills(experiments)
    assert still.experiments == [0, 1]
    assert (still.position, still.name) == (0, ImageName("image_0.cbf", 1))


def test_images_of_one_experiment():
    stills = list_stills(ExperimentList([experiment(still_set(4))]))
    assert [still.position for still in stills] == [0, 1, 2, 3]
    assert [still.experiments for still in stills] == [[0]] * 4


@pytest.mark.parametrize("first", [1, 14])
def test_experiments_that_share_a_sequence_of_stills(first):
    stills = list_stills(shared_sequence(first))
    assert [still.position for still in stills] == [0, 1, 2]
    assert [still.experiments for still in stills] == [[0], [1], [2]]


def test_one_experiment_of_a_sequence_of_stills():
    whole = sequence(3, 0.0, first=5)
    experiments = ExperimentList(
        [experiment(whole, scan=whole.get_scan(), goniometer=GONIOMETER)]
    )
    assert len(list_stills(experiments)) == 3


def test_names_of_images():
    files, one_file = still_set(3), still_set(3, "run1/data.h5")
    assert name_image(files, 2) == ImageName("image_2.cbf", 1)
    assert name_image(one_file, 2) == ImageName("run1/data.h5", 3)
    assert name_image(one_file[1:3], 1) == ImageName("run1/data.h5", 3)


def test_files_of_one_name_in_two_folders_are_two():
    experiments = ExperimentList(
        [experiment(still_set(1, f"{folder}/data.h5")) for folder in ("run1", "run2")]
    )
    names = [str(still.name) for still in list_stills(experiments)]
    assert names == ["run1/data.h5 [1]", "run2/data.h5 [1]"]


def test_experiment_of_a_still():
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    for experiments in (
        ExperimentList([experiment(still_set(3), crystal=c) for c in crystals]),
        shared_sequence(first=5),
    ):
        still = list_stills(experiments)[1]
        (chosen,) = experiment_of_still(experiments, still)
        assert name_image(chosen.imageset, 0) == still.name
        assert len(chosen.imageset) == 1
        assert chosen.crystal == experiments[still.experiments[0]].crystal
    assert chosen.scan.get_image_range() == (6, 6)


def test_rotation_scan():
    scan = sequence(3, 0.1)
    experiments = ExperimentList(
        [experiment(scan, scan=scan.get_scan(), goniometer=GONIOMETER)]
    )
    with pytest.raises(ValueError, match=r"dials\.import convert_sequences_to_stills"):
        list_stills(experiments)


def test_without_images():
    experiments = ExperimentList([experiment(still_set(1)), experiment(None)])
    with pytest.raises(ValueError, match="experiment 1 has no images"):
        list_stills(experiments)
    with pytest.raises(ValueError, match=r"no images: .*dials\.import"):
        list_stills(ExperimentList())
