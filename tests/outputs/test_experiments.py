from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx import flumpy
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

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.outputs.experiments import select_experiments, write_experiments

BEAM = BeamFactory.simple(1.0)
DETECTOR = DetectorFactory.simple(
    "SENSOR_CCD", 100, (0.5, 0.5), "+x", "-y", (0.1, 0.1), (10, 10), (0, 100), []
)
GONIOMETER = GoniometerFactory.single_axis()


class Image:
    """What a MemReader reads: one number in all pixels."""

    def __init__(self, number: int) -> None:
        self._data = (flumpy.from_numpy(np.full((10, 10), number, np.int32)),)

    def get_raw_data(self) -> tuple:
        return self._data


class Reader(MemReader):
    """Images of number 0, 1, ... that seem to come from a file each."""

    def __init__(self, n_images: int) -> None:
        super().__init__([Image(i) for i in range(n_images)])

    def copy(self, paths: list[str]) -> Reader:
        return self

    def paths(self) -> list[str]:
        return [f"image_{i}.cbf" for i in range(len(self))]


def still_set(n_images: int) -> ImageSet:
    imageset = ImageSet(ImageSetData(Reader(n_images), None))
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


def numbers(experiments: ExperimentList) -> list[list[int]]:
    """The number in each image of each experiment."""
    return [
        [e.imageset.get_raw_data(i)[0][0] for i in range(len(e.imageset))]
        for e in experiments
    ]


def test_images_of_one_experiment():
    experiments = ExperimentList([experiment(still_set(4), identifier="set")])
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [True, False, False, True])
    assert numbers(selected) == [[0], [3]]
    assert list(selected.identifiers()) == ["set-0", "set-3"]


@pytest.mark.parametrize("first", [1, 14])
def test_experiments_that_share_a_sequence_of_stills(first):
    stills_in_sequence = sequence(3, 0.0, first)
    scan = stills_in_sequence.get_scan()
    experiments = ExperimentList(
        [
            experiment(
                stills_in_sequence,
                scan=scan[i : i + 1],
                goniometer=GONIOMETER,
                identifier=f"e{i}",
            )
            for i in range(3)
        ]
    )
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True, True])
    assert list(selected.identifiers()) == ["e1", "e2"]
    assert numbers(selected) == [[1], [2]]
    for i, chosen in enumerate(selected, start=1):
        assert chosen.scan.get_image_range() == (first + i, first + i)
        assert chosen.imageset.get_scan().get_image_range() == (first + i, first + i)
        assert chosen.is_still()


def test_one_experiment_of_a_sequence_of_stills():
    whole = sequence(3, 0.0, first=5)
    experiments = ExperimentList(
        [experiment(whole, scan=whole.get_scan(), goniometer=GONIOMETER)]
    )
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True, False])
    assert numbers(selected) == [[1]]
    assert selected[0].scan.get_image_range() == (6, 6)
    assert selected[0].identifier == ""


def test_all_chosen_is_the_list_itself():
    experiments = ExperimentList([experiment(still_set(3))])
    stills = list_stills(experiments)
    assert select_experiments(experiments, stills, [True] * 3) is experiments


def test_none_chosen():
    experiments = ExperimentList([experiment(still_set(3))])
    stills = list_stills(experiments)
    assert len(select_experiments(experiments, stills, [False] * 3)) == 0


def test_lattices_go_on_sharing_their_image():
    imageset = still_set(2)
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    experiments = ExperimentList([experiment(imageset, crystal=c) for c in crystals])
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True])
    assert numbers(selected) == [[1], [1]]
    assert len(selected.imagesets()) == 1


def test_written_list_is_read_again(tmp_path):
    experiments = ExperimentList([experiment(still_set(3), identifier="set")])
    path = tmp_path / "hits.expt"
    chosen = [False, True, True]
    write_experiments(path, experiments, list_stills(experiments), chosen)
    written = ExperimentList.from_file(path, check_format=False)
    assert list(written.identifiers()) == ["set-1", "set-2"]
    assert written[0].detector == DETECTOR
    assert [p.name for p in tmp_path.iterdir()] == ["hits.expt"]
