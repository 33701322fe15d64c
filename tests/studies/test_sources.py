from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.ke2018.training_set import MAX_SHIFT
from dials_cnn_screen.labels.annotation import Annotation, write_annotations
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.studies import sources
from dials_cnn_screen.studies.sources import Deposited, Simulated, cut

EDGE = 32 + 2 * MAX_SHIFT


def empty(n):
    return {c: np.zeros((n, EDGE, EDGE), np.float16) for c in ("lcn", "linear")}


@pytest.mark.usefixtures("noise")
def test_simulated_shots(tmp_path):
    source, images = Simulated(3), empty(3)
    labels = source.prepare("LO19", images, tmp_path, 1)
    assert source.count("LO19") == len(labels) == 3
    assert {Label.HIT, Label.MISS} <= set(labels)
    assert images["linear"].max() == 1
    assert images["lcn"].astype(np.float32).std(axis=(1, 2)).min() > 0.5


@pytest.mark.usefixtures("noise", "installed_formats")
def test_spots_of_simulated_shots(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SEED", 1)  # its hit has 208 visible spots
    source = Simulated(3)
    labels = source.prepare("LO19", empty(3), tmp_path, 1)
    hit, miss = (int(np.flatnonzero(labels == x)[0]) for x in (Label.HIT, Label.MISS))
    of_hit, of_miss = source.count_spots("LO19", np.array([hit, miss]), tmp_path, 1)
    assert of_hit > cut("LO19") > of_miss
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def deposited(write_cxidb76, tmp_path):
    folder = tmp_path / "L498"
    folder.mkdir()
    images = np.random.default_rng(0).poisson(60, (3, 60, 60)).astype(np.int32)
    write_cxidb76(folder / "r0027_2000.h5", images)
    labels = (Label.MISS, None, Label.HIT)
    lines = [
        Annotation(ImageName("r0027_2000.h5", i), label)
        for i, label in enumerate(labels, start=1)
    ]
    write_annotations(folder / "expert_annotation.txt", lines)
    (folder / "dials_annotation.txt").write_text("00002 7 Miss\n00003 44 Hit\n")
    return Deposited(tmp_path)


@pytest.mark.usefixtures("noise", "installed_formats")
def test_deposited_shots(deposited, tmp_path):
    assert deposited.count("L498") == 2
    images = empty(2)
    labels = deposited.prepare("L498", images, tmp_path, 1)
    assert labels.tolist() == [Label.MISS, Label.HIT]
    assert all(stored.any(axis=(1, 2)).all() for stored in images.values())
    counts = deposited.count_spots("L498", np.array([1, 0]), tmp_path, 1)
    assert counts.tolist() == [44, 0]


def test_missing_file_of_the_deposit(tmp_path):
    pytest.importorskip("dials")
    with pytest.raises(ValueError, match=r"no file '.*LG36/r0087_2000.h5'; the folder"):
        Deposited(tmp_path).count("LG36")


def test_cuts_are_those_of_the_deposit():
    pytest.importorskip("dials")
    names = ("L498", "LG36", "LN84", "LN83", "LO19")
    assert [cut(name) for name in names] == [30, 20, 30, 15, 50]
