from __future__ import annotations

import pytest

pytest.importorskip("dials")

from dxtbx.model import (
    Crystal,
    Detector,
    ExperimentList,
)

from dials_cnn_screen.images.stills import (
    digest_geometry,
    experiment_of_still,
    list_stills,
    name_image,
)
from dials_cnn_screen.labels.image_name import ImageName


def test_an_image_of_several_experiments_is_listed_once(made):
    imageset = made.still_set(1)
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    experiments = ExperimentList(
        [made.experiment(imageset, crystal=c) for c in crystals]
    )
    (still,) = list_stills(experiments)
    assert still.experiments == [0, 1]
    assert (still.position, still.name) == (0, ImageName("image_0.cbf", 1))


def test_images_of_one_experiment(made):
    stills = list_stills(ExperimentList([made.experiment(made.still_set(4))]))
    assert [still.position for still in stills] == [0, 1, 2, 3]
    assert [still.experiments for still in stills] == [[0]] * 4


@pytest.mark.parametrize("first", [1, 14])
def test_experiments_that_share_a_sequence_of_stills(made, first):
    stills = list_stills(made.shared_sequence(first))
    assert [still.position for still in stills] == [0, 1, 2]
    assert [still.experiments for still in stills] == [[0], [1], [2]]


def test_one_experiment_of_a_sequence_of_stills(made):
    whole = made.sequence(3, 0.0, first=5)
    experiments = ExperimentList([made.experiment(whole, scan=whole.get_scan())])
    assert len(list_stills(experiments)) == 3


def test_names_of_images(made):
    files, one_file = made.still_set(3), made.still_set(3, "run1/data.h5")
    assert name_image(files, 2) == ImageName("image_2.cbf", 1)
    assert name_image(one_file, 2) == ImageName("run1/data.h5", 3)
    assert name_image(one_file[1:3], 1) == ImageName("run1/data.h5", 3)


def test_files_of_one_name_in_two_folders_are_two(made):
    experiments = ExperimentList(
        [
            made.experiment(made.still_set(1, f"{folder}/data.h5"))
            for folder in ("run1", "run2")
        ]
    )
    names = [str(still.name) for still in list_stills(experiments)]
    assert names == ["run1/data.h5 [1]", "run2/data.h5 [1]"]


def test_experiment_of_a_still(made):
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    for experiments in (
        ExperimentList(
            [made.experiment(made.still_set(3), crystal=c) for c in crystals]
        ),
        made.shared_sequence(first=5),
    ):
        still = list_stills(experiments)[1]
        (chosen,) = experiment_of_still(experiments, still)
        assert name_image(chosen.imageset, 0) == still.name
        assert len(chosen.imageset) == 1
        assert chosen.crystal == experiments[still.experiments[0]].crystal
    assert chosen.scan.get_image_range() == (6, 6)


def test_rotation_scan(made):
    scan = made.sequence(3, 0.1)
    experiments = ExperimentList([made.experiment(scan, scan=scan.get_scan())])
    with pytest.raises(ValueError, match=r"dials\.import convert_sequences_to_stills"):
        list_stills(experiments)


def test_without_images(made):
    experiments = ExperimentList(
        [made.experiment(made.still_set(1)), made.experiment(None)]
    )
    with pytest.raises(ValueError, match="experiment 1 has no images"):
        list_stills(experiments)
    with pytest.raises(ValueError, match=r"no images: .*dials\.import"):
        list_stills(ExperimentList())


def test_geometry_is_told_apart(made):
    experiment = made.experiment(made.still_set(1))
    digests = []
    for detector in (experiment.detector, Detector(), None):
        experiment.detector = detector
        digests.append(digest_geometry(ExperimentList([experiment])))
    assert len(set(digests)) == 3
