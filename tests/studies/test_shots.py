from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.ke2018.preprocessing import CONTRASTS
from dials_cnn_screen.ke2018.training_set import MAX_SHIFT
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.shots import experiments_of, load_shots


def test_shots_of_all_experiments_stand_in_one_file_a_contrast(noise, tmp_path):
    source = noise(20)
    shots = load_shots(source, tmp_path, 1)
    assert source.prepared == source.counted == list(EXPERIMENTS)
    edge = 32 + 2 * MAX_SHIFT
    for contrast in CONTRASTS:
        data = shots.data[contrast]
        assert data.images.shape == (100, edge, edge)
        assert data.labels.tolist() == [*(np.arange(20) % 3)] * 5
        for number, name in enumerate(EXPERIMENTS, start=1):
            splits = shots.splits[name]
            assert [len(split) for split in splits] == [11, 3, 6]
            whole = np.concatenate(splits)
            assert (data.images[whole, 0, 0] == number).all()
            assert len(set(whole)) == 20
    test = shots.splits["LG36"].test - 20
    assert shots.labels("LG36").tolist() == (test % 3).tolist()
    assert shots.n_spots["LG36"].tolist() == np.where(test % 3 == 2, 0, 60).tolist()


def test_what_was_prepared_is_found_again(noise, tmp_path):
    first = load_shots(noise(20), tmp_path, 1)
    (tmp_path / "labels-LO19.npy").unlink()
    source = noise(20)
    again = load_shots(source, tmp_path, 1)
    assert source.prepared == ["LO19"]
    assert source.counted == []
    np.testing.assert_array_equal(again.n_spots["LO19"], first.n_spots["LO19"])
    np.testing.assert_array_equal(again.splits["LO19"].test, first.splits["LO19"].test)


def test_groups_and_fewer_images(noise, tmp_path):
    shots = load_shots(noise(20), tmp_path, 1)
    assert experiments_of("Rayonix + LG36") == ["LO19", "LN83", "LN84", "LG36"]
    assert experiments_of("L498") == ["L498"]
    whole = shots.splits_of("Rayonix + LG36")
    assert [len(split) for split in whole] == [44, 12, 24]
    fewer = shots.splits_of("Rayonix + LG36", 22)
    assert [len(split) for split in fewer] == [22, 6, 24]
    for small, large in zip(fewer, whole, strict=True):
        assert set(small) <= set(large)
    labels = shots.data["lcn"].labels
    counts = np.bincount(labels[fewer.training])
    np.testing.assert_allclose(counts, np.bincount(labels[whole.training]) / 2, atol=1)


def test_too_few_shots_are_named(noise, tmp_path):
    with pytest.raises(
        ValueError, match="L498: all 2 images of the training split are Hit"
    ):
        load_shots(noise(2), tmp_path, 1)
