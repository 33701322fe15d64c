from __future__ import annotations

import math

import h5py
import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.util.input_files import (
    check_claims,
    find_missing_data,
    find_unreadable,
    read_image_by_image,
)

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")


def test_a_file_that_claims_too_many_images():
    with h5py.File("long.h5", "w") as file:
        file.create_dataset("a/peaks", (3 * 10**6, 4), "i4", chunks=(1, 4))
        file.create_dataset("a/data", (10**6, 64, 64), "i4", chunks=(1, 64, 64))
    check_claims("long.h5")
    with h5py.File("long.h5", "a") as file:
        file.create_dataset("b", (10**6 + 1, 8, 8), "i4", chunks=(1, 8, 8))
    message = "/b claims 1000001 images, more than 1000000"
    with pytest.raises(ValueError, match=message):
        check_claims("long.h5")
    assert find_unreadable(["long.h5"]) == {"long.h5": message}
    with pytest.raises(ValueError, match=message):
        read_image_by_image("long.h5")


def test_other_files_claim_nothing(tmp_path):
    (tmp_path / "text").write_text("none")
    for name in ("text", "missing", "."):
        check_claims(name)


def test_images_without_models_among_others(write_levels):
    distance = [100, math.nan, 101, 102]
    wavelength = [1.3, 1.3, 1.3, -1.0]
    write_levels("a.h5", [50] * 4, distance=distance, wavelength=wavelength)
    assert "the distance of image 1 is nan" in find_unreadable(["a.h5"])["a.h5"]
    experiments = read_image_by_image("a.h5")
    assert [e.imageset.indices()[0] for e in experiments] == [0, 1, 2, 3]
    assert [bool(e.detector) for e in experiments] == [True, False, True, False]
    assert [bool(e.beam) for e in experiments] == [True, False, True, False]
    assert experiments[2].detector[0].get_distance() == pytest.approx(101)
    assert experiments[2].imageset.get_raw_data(0)[0][0] == 50


def test_a_file_of_which_no_image_has_models(write_levels):
    write_levels("a.h5", [50] * 2, distance=[0, math.nan])
    with pytest.raises(ValueError, match=r"the distance of image 0 is 0\.0"):
        read_image_by_image("a.h5")


def test_a_file_that_can_not_be_opened(tmp_path):
    np.save("a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not a file of several images"):
        read_image_by_image("a.npy")


def test_missing_data_files_of_a_master_are_named(write_nxmx):
    write_nxmx("whole.h5", np.full((2, 40, 40), 20, np.int32))
    write_nxmx("master.h5", np.full((2, 40, 40), 20, np.int32))
    assert find_missing_data("whole.h5") == []
    with h5py.File("master.h5", "a") as file:
        data = file["entry/data"]
        del data["data"]
        for i, name in enumerate(["whole.h5", *(f"gone_{k}.h5" for k in range(5))]):
            data[f"data_{i + 1:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
    gone = [f"gone_{k}.h5" for k in range(5)]
    assert find_missing_data("master.h5") == gone
    assert find_unreadable(["whole.h5", "master.h5"]) == {
        "master.h5": "data files that it names are missing: gone_0.h5, gone_1.h5, "
        "gone_2.h5, 2 more"
    }


def test_a_file_of_which_the_entries_are_damaged(write_nxmx, monkeypatch):
    write_nxmx("whole.h5", np.full((2, 40, 40), 20, np.int32))

    def fail(*_):
        raise KeyError("Unable to open object (bad heap free list)")

    monkeypatch.setattr(h5py.Group, "visititems", fail)
    assert find_missing_data("whole.h5") == []
    check_claims("whole.h5")


def test_files_that_lack_no_data(tmp_path):
    (tmp_path / "text").write_text("none")
    for name in ("text", "missing", "."):
        assert find_missing_data(name) == []
