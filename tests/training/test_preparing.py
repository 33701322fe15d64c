from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.frames import read_frame
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare
from dials_cnn_screen.ke2018.training_set import as_stored, wide
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.training import preparing
from dials_cnn_screen.training.preparing import bytes_each, prepare_stills

pytestmark = pytest.mark.usefixtures("installed_formats")

IMAGES, SEARCH = Preprocessing(size=16), CandidateSearch(most=8)


@pytest.fixture
def labelled(tmp_path, write_cxidb76):
    images = np.random.default_rng(0).poisson(20, (4, 80, 80)).astype(np.int32)
    images[1, 30, 20] = images[3, 50:52, 60] = 500
    path = write_cxidb76(tmp_path / "run1.h5", images, kind="Rayonix")
    stills = list_stills(ExperimentListFactory.from_filenames([str(path)]))
    return list(zip(stills, [Label.MISS, *[Label.HIT] * 3], strict=True))


@pytest.fixture
def empty_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("nproc", [1, 2])
def test_images(labelled, empty_folder, nproc):
    data = prepare_stills(labelled, IMAGES, nproc, empty_folder)
    assert data.labels.tolist() == [2, 0, 0, 0]
    assert data.images.nbytes == 4 * bytes_each(IMAGES)
    for image, (still, _) in zip(data.images, labelled, strict=True):
        frame = read_frame(still.imageset, still.position)
        seen = prepare(frame.data, frame.mask, frame.beam_centre, wide(IMAGES))
        np.testing.assert_allclose(image, as_stored(seen), atol=2e-3)
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("nproc", [1, 2])
def test_candidates(labelled, empty_folder, nproc):
    data = prepare_stills(labelled, SEARCH, nproc, empty_folder)
    assert data.labels.tolist() == [2, 0, 0, 0]
    assert data.patches.nbytes == 4 * bytes_each(SEARCH)
    assert np.isnan(data.truth).all()
    for i, (still, _) in enumerate(labelled):
        frame = read_frame(still.imageset, still.position)
        found = find_candidates(frame.data, frame.mask, frame.beam_centre, SEARCH)
        assert data.present[i].sum() == len(found.z)
        np.testing.assert_allclose(
            np.sinh(data.scalars[i, : len(found.z), 0]), found.z, rtol=1e-3
        )
    assert data.scalars[1, 0, 0] > np.arcsinh(40)


@pytest.mark.parametrize("nproc", [1, 2])
def test_unreadable_image_is_named(labelled, empty_folder, monkeypatch, nproc):
    def fail(imageset, position):
        if imageset.indices()[position] == 2:
            raise RuntimeError("no such byte")
        return read_frame(imageset, position)

    monkeypatch.setattr(preparing, "read_frame", fail)
    with pytest.raises(ValueError, match=r"run1.h5 \[3\] can't be used: no such byte;"):
        prepare_stills(labelled, SEARCH, nproc, empty_folder)


def test_full_disk_is_said_before(labelled, empty_folder, monkeypatch):
    usage = shutil.disk_usage(empty_folder)._replace(free=4 * 65_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(ValueError, match=r"need 0\.\d GB in .*folder', and 0.0 GB are"):
        prepare_stills(labelled, IMAGES, 1, empty_folder)
