from __future__ import annotations

import json

import numpy as np
import pytest

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs import image_table
from dials_cnn_screen.outputs.image_table import tabulate_images
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import FAILED, decide

HIT = (0.9, 0.08, 0.02)


def hits(*names: ImageName):
    prediction = make_prediction(HIT, np.full((3, 2), 5), 0.25)
    return [decide(name, prediction, None, Decision()) for name in names]


def test_numbers_of_an_image():
    table = tabulate_images(hits(ImageName("/a/b/run.h5", 7)))
    assert table["folder"] + table["files"][0] == "/a/b/run.h5"
    assert table["rows"] == [[0, 7, 0, 1, 0.98, 0.9, 3, None, 0.25]]
    assert table["classes"][0] == "Hit"
    assert table["kept"][1] == "yes"


def test_an_image_without_a_class():
    failed = decide(ImageName("run.h5", 1), None, "no", Decision())
    table = tabulate_images([failed])
    assert table["classes"][table["rows"][0][2]] == FAILED
    assert table["kept"][table["rows"][0][3]] == "not classified"
    assert table["rows"][0][4:] == [None] * 5


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["/a/b/1.h5", "/a/b/2.h5"], "/a/b/"),
        (["/a/b/1.h5", "/a/c/1.h5"], "/a/"),
        (["/a/1.h5", "/b/1.h5"], "/"),
        (["1.h5", "2.h5"], ""),
        (["1.h5", "/a/2.h5"], ""),
    ],
)
def test_each_path_is_whole(paths, folder):
    table = tabulate_images(hits(*map(ImageName, paths)))
    assert table["folder"] == folder
    assert [folder + file for file in table["files"]] == paths


def test_very_many_images(monkeypatch):
    monkeypatch.setattr(image_table, "MOST_ROWS", 10)
    table = tabulate_images(hits(*(ImageName("run.h5", i + 1) for i in range(30))))
    assert [row[1] for row in table["rows"]] == list(range(1, 11))


def test_a_hundred_thousand_images_take_few_bytes():
    image = hits(ImageName("/data/run.h5", 99_999))
    assert len(json.dumps(tabulate_images(image * 100_000))) < 6_000_000
