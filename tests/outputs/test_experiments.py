from __future__ import annotations

import pytest

pytest.importorskip("dials")

from dxtbx.model import (
    Crystal,
    ExperimentList,
)

from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.outputs.experiments import select_experiments, write_experiments


def numbers(experiments: ExperimentList) -> list[list[int]]:
    """The number in each image of each experiment."""
    return [
        [e.imageset.get_raw_data(i)[0][0] for i in range(len(e.imageset))]
        for e in experiments
    ]


def test_images_of_one_experiment(made):
    experiments = ExperimentList([made.experiment(made.still_set(4), identifier="set")])
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [True, False, False, True])
    assert numbers(selected) == [[0], [3]]
    assert list(selected.identifiers()) == ["set-0", "set-3"]


@pytest.mark.parametrize("first", [1, 14])
def test_experiments_that_share_a_sequence_of_stills(made, first):
    experiments = made.shared_sequence(first)
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True, True])
    assert list(selected.identifiers()) == ["e1", "e2"]
    assert numbers(selected) == [[1], [2]]
    for i, chosen in enumerate(selected, start=1):
        assert chosen.scan.get_image_range() == (first + i, first + i)
        assert chosen.imageset.get_scan().get_image_range() == (first + i, first + i)
        assert chosen.is_still()


def test_one_experiment_of_a_sequence_of_stills(made):
    whole = made.sequence(3, 0.0, first=5)
    experiments = ExperimentList([made.experiment(whole, scan=whole.get_scan())])
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True, False])
    assert numbers(selected) == [[1]]
    assert selected[0].scan.get_image_range() == (6, 6)
    assert selected[0].identifier == ""


def test_all_chosen_is_the_list_itself(made):
    experiments = ExperimentList([made.experiment(made.still_set(3))])
    stills = list_stills(experiments)
    assert select_experiments(experiments, stills, [True] * 3) is experiments


def test_none_chosen(made):
    experiments = ExperimentList([made.experiment(made.still_set(3))])
    stills = list_stills(experiments)
    assert len(select_experiments(experiments, stills, [False] * 3)) == 0


def test_lattices_go_on_sharing_their_image(made):
    imageset = made.still_set(2)
    crystals = [Crystal((a, 0, 0), (0, a, 0), (0, 0, a), "P1") for a in (10, 20)]
    experiments = ExperimentList(
        [made.experiment(imageset, crystal=c) for c in crystals]
    )
    stills = list_stills(experiments)
    selected = select_experiments(experiments, stills, [False, True])
    assert numbers(selected) == [[1], [1]]
    assert len(selected.imagesets()) == 1


def test_written_list_is_read_again(made, tmp_path):
    experiments = ExperimentList([made.experiment(made.still_set(3), identifier="set")])
    path = tmp_path / "hits.expt"
    chosen = [False, True, True]
    write_experiments(path, experiments, list_stills(experiments), chosen)
    written = ExperimentList.from_file(path, check_format=False)
    assert list(written.identifiers()) == ["set-1", "set-2"]
    assert written[0].detector == experiments[0].detector
    assert [p.name for p in tmp_path.iterdir()] == ["hits.expt"]
